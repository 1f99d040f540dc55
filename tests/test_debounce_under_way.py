"""A debounced call while the push that would serve it is under way, and may still fail.

The windows are kept in another place than the items, as with SQS: the decision and the push are two
steps. `tests/models/debounce.pml` is the model of it.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis_server import unique_group

from deferrable import BackendError
from deferrable.aio import Deferrable
from deferrable.aio._engine import deferring
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.aio.backend._redis.debounce import RedisDebounceStore
from deferrable.aio.debounce import DebounceStore, InMemoryDebounceStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "redis", "redis, with the old library"])
async def instance(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Deferrable]:
    store: DebounceStore = (
        InMemoryDebounceStore() if request.param == "memory" else RedisDebounceStore(redis_url)
    )
    serializer: Any = "classic" if "old" in request.param else "pickle"
    backend = InMemoryBackendFactory(None).create_backend_for_group(unique_group())
    async with Deferrable(backend, serializer=serializer, debounce_store=store) as made:
        yield made
    await store.close()


class HeldPush:
    """The first push waits until the test says how it ends."""

    def __init__(self, queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_under_way = asyncio.Event()
        self.error: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._push_batch, self._pushes = queue._push_batch, 0
        monkeypatch.setattr(queue, "_push_batch", self._push)

    async def _push(self, *args: Any) -> Any:
        self._pushes += 1
        if self._pushes == 1:
            self.is_under_way.set()
            error = await self.error
            if error is not None:
                raise error
        return await self._push_batch(*args)


def count(shelf: str) -> None:
    """What is debounced here."""


def delayed_job(instance: Deferrable) -> Any:
    options = {"debounce_seconds": 3600, "debounce_always_delay": True}
    return instance.deferrable(**options)(count)


async def test_a_call_is_pushed_when_the_push_it_would_have_relied_on_has_failed(
    instance: Deferrable, monkeypatch: pytest.MonkeyPatch
) -> None:
    push, job = HeldPush(instance.backend.queue, monkeypatch), delayed_job(instance)
    shelf = unique_group()

    first = asyncio.create_task(job.later_async(shelf))
    await push.is_under_way.wait()
    second = asyncio.create_task(job.later_async(shelf))
    await asyncio.sleep(0)
    assert not second.done()
    push.error.set_result(BackendError("the broker refused it"))

    with pytest.raises(BackendError, match="the broker refused it"):
        await first
    assert (await second).status == "delayed"
    assert (await instance.backend.queue.stats())["delayed"] == 1


async def test_calls_are_skipped_when_the_push_they_rely_on_has_worked(
    instance: Deferrable, monkeypatch: pytest.MonkeyPatch
) -> None:
    push, job = HeldPush(instance.backend.queue, monkeypatch), delayed_job(instance)
    shelf = unique_group()

    first = asyncio.create_task(job.later_async(shelf))
    await push.is_under_way.wait()
    others = [asyncio.create_task(job.later_async(shelf)) for _ in range(20)]
    await asyncio.sleep(0)
    push.error.set_result(None)

    assert (await first).status == "delayed"
    assert {each.status for each in await asyncio.gather(*others)} == {"skipped"}
    assert (await instance.backend.queue.stats())["delayed"] == 1


async def test_a_call_is_pushed_at_once_when_a_push_is_under_way_for_longer_than_any_lasts(
    instance: Deferrable, monkeypatch: pytest.MonkeyPatch
) -> None:
    push, job = HeldPush(instance.backend.queue, monkeypatch), delayed_job(instance)
    shelf = unique_group()
    monkeypatch.setattr(deferring, "RESERVATION_SECONDS", 0)

    first = asyncio.create_task(job.later_async(shelf))
    await push.is_under_way.wait()

    second = asyncio.create_task(job.later_async(shelf))
    await asyncio.sleep(0)  # it waits to be sent after the first
    push.error.set_result(None)

    assert [(await each).status for each in (first, second)] == ["delayed", "pushed"]
