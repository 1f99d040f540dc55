"""An instance of one API on one backend, with calls that fit both; for tests of handles."""

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis_server import RedisServer, unique_group

import deferrable
from deferrable import CallState, Receipt
from deferrable.aio import Deferrable
from deferrable.aio.backend import (
    DocketsBackendFactory,
    InMemoryBackendFactory,
    SQLiteBackendFactory,
)
from deferrable.testing import MovingClock

__all__ = ["LEASE", "Shop", "echo"]

LEASE = 300.0


def echo(value: object) -> object:
    """A job that other processes can find."""
    return value


class Recorder:
    """Notes each event and the id of its item."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda item: self.events.append((name[3:], item and item["id"]))


class Shop:
    """An instance, a job that notes what it gets, and verbs that fit both APIs."""

    def __init__(self, api: str, backend: Any, clock: MovingClock, **options: Any) -> None:
        self.is_blocking = api == "blocking"
        make: Any = deferrable.Deferrable if self.is_blocking else Deferrable
        self.clock = clock
        self.core = backend
        self.instance = make(backend, **options)
        self.recorder = Recorder()
        self.instance.register_event_consumer(self.recorder)
        self.ran: list[object] = []

        @self.instance.deferrable(name="note", error_classes=[ValueError])
        async def note(value: object) -> object:
            if isinstance(value, str) and value.startswith("fail"):
                raise {"fail": KeyError, "fail once": ValueError}[value](value)
            self.ran.append(value)
            return value

        self.job = note

    async def do(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def later(self, *args: Any, **options: Any) -> Receipt:
        job = self.job.options(**options) if options else self.job
        receipt: Receipt = await self.do(job.later if self.is_blocking else job.later_async, *args)
        return receipt

    async def state(self, handle: Any) -> CallState:
        state: CallState = await self.do(handle.state if self.is_blocking else handle.state_async)
        return state

    async def cancel(self, handle: Any, **options: Any) -> str:
        verb = handle.cancel if self.is_blocking else handle.cancel_async
        answer: str = await self.do(verb, **options)
        return answer

    async def run_once(self) -> Any:
        return await self.do(self.instance.run_once)

    @property
    def awaiting(self) -> Any:
        """The instance in the asyncio API, for jobs on the loop of the test."""
        return getattr(self.instance, "_core", self.instance)

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.recorder.events]


@pytest.fixture
def shop_clock() -> MovingClock:
    return MovingClock()


@pytest.fixture(params=["memory", "dockets", "sqlite"])
async def shop_backend(
    request: pytest.FixtureRequest, shop_clock: MovingClock
) -> AsyncIterator[Any]:
    if request.param == "memory":
        factory: Any = InMemoryBackendFactory(visibility_timeout=LEASE, clock=shop_clock)
    elif request.param == "sqlite":
        path = request.getfixturevalue("tmp_path") / "queue"
        factory = SQLiteBackendFactory(path, 0, LEASE, durability="process", clock=shop_clock)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        factory = DocketsBackendFactory(server.url, wait_time=0, timeout=LEASE, clock=shop_clock)
    async with factory.create_backend_for_group(unique_group()) as made:
        yield made
        await made.queue.flush()
        await made.error_queue.flush()


@pytest.fixture(params=["blocking", "awaiting"])
def shop(request: pytest.FixtureRequest, shop_backend: Any, shop_clock: MovingClock) -> Shop:
    return Shop(request.param, shop_backend, shop_clock)
