"""A debounced push in one step: where the windows and a Dockets queue are in one Redis."""

import asyncio
import itertools
import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_server import unique_group

from deferrable.aio.backend._redis.debounce import RedisDebounceStore
from deferrable.aio.backend.dockets import DocketsBackendFactory
from deferrable.aio.backend.memory import InMemoryBackendFactory
from deferrable.aio.debounce import DebounceKey, InMemoryDebounceStore, JoinedPush, Reservation
from deferrable.aio.queue import Queue
from deferrable.debounce import PushDelayed, PushNow, Skip, Window, classic_keys, confirm, reserve
from deferrable.errors import BackendUnavailable, SerializationError
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as made:
        yield made


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def group() -> str:
    return unique_group()


@pytest.fixture
async def store(redis_url: str, clock: MovingClock) -> AsyncIterator[RedisDebounceStore]:
    async with RedisDebounceStore(redis_url, clock=clock) as made:
        yield made


@pytest.fixture
async def queue(redis_url: str, clock: MovingClock, group: str) -> AsyncIterator[Queue]:
    factory = DocketsBackendFactory(redis_url, wait_time=0, clock=clock)
    async with factory.create_backend_for_group(group) as backend:
        yield backend.queue


@pytest.fixture
def push(store: RedisDebounceStore, queue: Queue) -> JoinedPush:
    joined = store.joined_with(queue)
    assert joined is not None
    return joined


@pytest.fixture(params=["ours", "shared with the old library"])
def key(request: pytest.FixtureRequest) -> DebounceKey:
    return make_key(request.param)


_numbers = itertools.count()


def make_key(kind: str) -> DebounceKey:
    number = f"{uuid.uuid4().hex} {next(_numbers)}"
    if kind == "ours":
        return DebounceKey(number)
    return DebounceKey(number, classic_keys({"method": "M", "args": number, "kwargs": "K"}))


def make_item(**fields: Any) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "args": 'é "\\\ud800',
        "delay": 0,
        "original_delay": 0,
        **fields,
    }


async def test_an_item_pushed_now_is_available_at_once(
    push: JoinedPush, queue: Queue, key: DebounceKey, clock: MovingClock
) -> None:
    item = make_item(size=2**70, list=[], ratio=1.1)

    reservation = await push(item, key, 60, False, "1")
    _, popped = await queue.pop()

    assert reservation == Reservation(PushNow(), clock.time())
    assert popped == item


async def test_a_delayed_item_is_available_when_its_window_ends(
    push: JoinedPush, queue: Queue, key: DebounceKey, clock: MovingClock
) -> None:
    await push(make_item(), key, 60, False, "1")
    await queue.flush()
    clock.advance(10)
    item = make_item()
    reservation = await push(item, key, 60, False, "2")
    due_time = clock.time() + 50
    clock.advance(49.75)
    early = await queue.pop()
    clock.advance(0.25)
    _, popped = await queue.pop()

    assert reservation == Reservation(PushDelayed(50), due_time)
    assert early == (None, None)
    assert popped == {**item, "delay": 50, "original_delay": 50, "due_time": due_time}


async def test_a_skipped_item_is_not_pushed(
    push: JoinedPush, queue: Queue, key: DebounceKey, clock: MovingClock
) -> None:
    await push(make_item(), key, 60, True, "1")
    skipped = await push(make_item(), key, 60, True, "2")

    assert skipped.decision == Skip(clock.time() + 60)
    assert (await queue.stats())["delayed"] == 1


async def test_an_item_at_the_very_end_of_its_window_is_available_at_once(
    push: JoinedPush, key: DebounceKey, clock: MovingClock, client: "redis.Redis", group: str
) -> None:
    await push(make_item(), key, 60, False, "1")
    clock.advance(60)
    reservation = await push(make_item(), key, 60, False, "2")

    assert reservation.decision == PushDelayed(0)
    assert client.llen(f"queue.deferrable_{group}") == 2


async def test_the_envelope_is_that_of_a_plain_push(
    push: JoinedPush, queue: Queue, key: DebounceKey, client: "redis.Redis", group: str
) -> None:
    item = make_item()
    await queue.push(item)
    await push(item, key, 60, False, "1")

    texts = client.lrange(f"queue.deferrable_{group}", 0, -1)
    joined, alone = (json.loads(text, object_pairs_hook=list) for text in texts)  # type: ignore[union-attr]
    assert [name for name, _ in joined] == [name for name, _ in alone]
    assert [pair for pair in joined if pair[0] != "item"] == [
        pair for pair in alone if pair[0] != "item"
    ]
    assert sorted(map(repr, dict(joined)["item"])) == sorted(map(repr, dict(alone)["item"]))


async def test_the_window_counts_for_good_at_once(
    push: JoinedPush, store: RedisDebounceStore, key: DebounceKey, clock: MovingClock
) -> None:
    await push(make_item(), key, 60, True, "1")
    clock.advance(30)

    assert isinstance((await store.reserve(key, 60, True, "2")).decision, Skip)


async def test_a_push_in_one_step_counts_the_reservations_of_those_in_two(
    push: JoinedPush, store: RedisDebounceStore, key: DebounceKey
) -> None:
    await store.reserve(key, 60, False, "1")
    delayed = await push(make_item(), key, 60, False, "2")
    await store.restore(key, "1")
    skipped = await store.reserve(key, 60, False, "3")

    assert isinstance(delayed.decision, PushDelayed)
    assert isinstance(skipped.decision, Skip)


async def test_the_same_token_pushes_once(push: JoinedPush, queue: Queue, key: DebounceKey) -> None:
    first = await push(make_item(), key, 60, False, "1")
    again = await push(make_item(), key, 60, False, "1")

    assert first == again
    assert (await queue.stats())["available"] == 1


async def test_a_push_whose_answer_was_lost_is_made_once(
    redis_url: str, group: str, key: DebounceKey
) -> None:
    async with Interrupted(redis_url) as port:
        url = f"redis://127.0.0.1:{port}/0"
        factory = DocketsBackendFactory(url, wait_time=0)
        async with RedisDebounceStore(url) as store, factory.create_backend_for_group(group) as b:
            push = store.joined_with(b.queue)
            assert push is not None
            reservation = await push(make_item(), key, 60, False, "1")

            assert reservation.decision == PushNow()
            assert (await b.queue.stats())["available"] == 1


class Interrupted:
    """A way to Redis on which the first answer of a script is lost, and its connection with it."""

    def __init__(self, redis_url: str) -> None:
        self.address = urlsplit(redis_url)
        self.has_lost = False

    async def __aenter__(self) -> int:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(
            self.address.hostname, self.address.port or 6379
        )
        is_script = False

        async def forward() -> None:
            nonlocal is_script
            while request := await reader.read(65536):
                is_script = is_script or b"EVAL" in request
                back.write(request)
            back.close()

        forwarding = asyncio.create_task(forward())
        while answer := await there.read(65536):
            if is_script and not self.has_lost and not answer.startswith(b"-NOSCRIPT"):
                self.has_lost = True
                break
            writer.write(answer)
        forwarding.cancel()
        writer.close()
        back.close()


async def test_what_is_no_json_is_refused_and_leaves_no_window(
    push: JoinedPush, key: DebounceKey
) -> None:
    with pytest.raises(SerializationError):
        await push(make_item(bad=float("nan")), key, 60, False, "1")

    assert (await push(make_item(), key, 60, False, "2")).decision == PushNow()


async def test_a_redis_that_cannot_be_reached_is_reported_as_unavailable(key: DebounceKey) -> None:
    url = "redis://127.0.0.1:1/0"
    store, backend = (
        RedisDebounceStore(url),
        DocketsBackendFactory(url).create_backend_for_group(""),
    )
    push = store.joined_with(backend.queue)
    assert push is not None

    with pytest.raises(BackendUnavailable):
        await push(make_item(), key, 60, False, "1")


def test_of_eight_event_loops_one_pushes_now_and_one_delayed(
    redis_url: str, group: str, key: DebounceKey
) -> None:
    store = RedisDebounceStore(redis_url)
    backend = DocketsBackendFactory(redis_url, wait_time=0).create_backend_for_group(group)
    push = store.joined_with(backend.queue)
    assert push is not None
    start = threading.Barrier(8)

    async def produce(producer: int) -> None:
        start.wait(30)
        for number in range(20):
            await push(make_item(), key, 60, False, f"{producer} {number}")

    threads = [threading.Thread(target=lambda n=n: asyncio.run(produce(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    stats = asyncio.run(backend.queue.stats())

    assert [stats[name] for name in ("available", "delayed", "in_flight")] == [1, 1, 0]


async def test_the_server_tells_when_a_delayed_item_is_due(
    redis_url: str,
    group: str,
    key: DebounceKey,
    client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    factory = DocketsBackendFactory(redis_url, wait_time=0)
    async with (
        RedisDebounceStore(redis_url) as store,
        factory.create_backend_for_group(group) as backend,
    ):
        push = store.joined_with(backend.queue)
        assert push is not None
        monkeypatch.setattr("time.time", lambda: 5.0)
        reservation = await push(make_item(), key, 60, True, "1")

    seconds, _ = client.time()  # type: ignore[misc]
    ((_, due_time),) = client.zrange(f"queue.deferrable_{group}.delayed", 0, -1, withscores=True)  # type: ignore[misc]
    assert due_time == reservation.available_time
    assert 58 < due_time - seconds < 62


@pytest.fixture
async def server_timed_push(redis_url: str, group: str) -> AsyncIterator[JoinedPush]:
    """By the server's clock, by which keys expire, too."""
    factory = DocketsBackendFactory(redis_url, wait_time=0)
    async with (
        RedisDebounceStore(redis_url) as store,
        factory.create_backend_for_group(group) as backend,
    ):
        push = store.joined_with(backend.queue)
        assert push is not None
        yield push


async def test_keys_of_the_old_library_are_as_it_leaves_them_with_a_mark_for_the_delay(
    server_timed_push: JoinedPush, client: "redis.Redis"
) -> None:
    key = make_key("shared with the old library")
    reservation = await server_timed_push(make_item(), key, 30, True, "1")

    assert key.classic is not None
    mark, last_push = key.classic
    assert client.get(mark) == "_"
    assert 25_000 < int(str(client.pttl(mark))) <= 30_000
    assert float(str(client.get(last_push))) == reservation.available_time
    assert 55_000 < int(str(client.pttl(last_push))) <= 60_000
    assert 5_000 < int(str(client.pttl(f"deferrable.debounce.{last_push}"))) <= 10_000


async def test_a_mark_of_the_old_library_with_nothing_pending_ends_with_the_next_push(
    server_timed_push: JoinedPush, client: "redis.Redis"
) -> None:
    key = make_key("shared with the old library")
    assert key.classic is not None
    client.set(key.classic[0], "_", px=60_000)
    await server_timed_push(make_item(), key, 30, False, "1")

    assert not client.exists(key.classic[0])


async def test_a_window_of_ours_expires_when_it_cannot_matter_any_more(
    server_timed_push: JoinedPush, client: "redis.Redis"
) -> None:
    key = make_key("ours")
    await server_timed_push(make_item(), key, 30, False, "1")

    assert 55_000 < int(str(client.pttl(f"deferrable.debounce.{key.text}"))) <= 60_000


# Where it is two steps.


async def test_windows_and_items_in_different_places_take_two_steps(
    redis_url: str, store: RedisDebounceStore, queue: Queue, group: str, clock: MovingClock
) -> None:
    dockets = DocketsBackendFactory(redis_url, clock=clock).create_backend_for_group(group)
    in_memory = InMemoryBackendFactory(clock=clock).create_backend_for_group(group)
    elsewhere = RedisDebounceStore(urlsplit(redis_url)._replace(path="/1").geturl(), clock=clock)
    of_another_time = RedisDebounceStore(redis_url)

    assert store.joined_with(dockets.queue) is not None
    assert store.joined_with(dockets.error_queue) is None
    assert store.joined_with(in_memory.queue) is None
    assert elsewhere.joined_with(queue) is None
    assert of_another_time.joined_with(queue) is None
    assert InMemoryDebounceStore(clock).joined_with(queue) is None


# The twin.


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@pytest.mark.parametrize("kind", ["ours", "shared with the old library"])
def test_a_push_in_one_step_decides_as_the_pure_transitions_do_to_the_last_digit(
    kind: str, data: st.DataObject, runner: asyncio.Runner, redis_url: str
) -> None:
    windows = st.floats(0.001, 1000) if kind == "ours" else st.floats(30, 1000)
    window_seconds = data.draw(windows)
    gaps = st.one_of(st.just(0.0), st.floats(0, 20), st.floats(0, 2 * window_seconds))
    calls = data.draw(st.lists(st.tuples(gaps, st.booleans()), max_size=20))
    clock = MovingClock(data.draw(st.floats(1_700_000_000, 1_800_000_000)))

    runner.run(follow(make_key(kind), window_seconds, calls, clock, redis_url))


async def follow(
    key: DebounceKey,
    window_seconds: float,
    calls: list[tuple[float, bool]],
    clock: MovingClock,
    redis_url: str,
) -> None:
    window: Window | None = None
    factory = DocketsBackendFactory(redis_url, wait_time=0, clock=clock)
    async with (
        RedisDebounceStore(redis_url, clock=clock) as store,
        factory.create_backend_for_group(unique_group()) as backend,
    ):
        push = store.joined_with(backend.queue)
        assert push is not None
        for number, (gap, always_delay) in enumerate(calls):
            clock.advance(gap)
            now, token = clock.time(), f"{number}"
            reservation = await push(make_item(), key, window_seconds, always_delay, token)
            decision, window = reserve(window, now, window_seconds, always_delay, token)
            window = confirm(window, now, token)
            assert window is not None
            has_id = isinstance(decision, Skip) and key.classic is None
            pending_id = window.pending_id if has_id else None
            assert reservation == Reservation(decision, window.available_time, pending_id)
