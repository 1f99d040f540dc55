"""What is special to debounce windows in Redis: whose clock counts, how long keys live, who shares.

The keys of the old library are written and read here as its last release did: the time of the last
push as text, for two windows; ``_`` as the pending mark, for one.
"""

import asyncio
import math
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
import redis.asyncio
from processes import DEADLINE_SECONDS
from redis_server import free_port, start_redis
from warm_python import start_python

from deferrable.aio.backend._redis.debounce import RedisDebounceStore
from deferrable.aio.debounce import DebounceKey
from deferrable.debounce import PushDelayed, PushNow, Skip, classic_keys
from deferrable.errors import BackendUnavailable, InvalidOptions
from deferrable.testing import MovingClock, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as made:
        yield made


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisDebounceStore]:
    async with RedisDebounceStore(redis_url) as made:
        yield made


@pytest.fixture
def key() -> DebounceKey:
    return DebounceKey(uuid.uuid4().hex)


@pytest.fixture
def shared_key() -> DebounceKey:
    """A window that the old library has, too."""
    item = {"method": "M", "args": uuid.uuid4().hex, "kwargs": "K"}
    return DebounceKey(uuid.uuid4().hex, classic_keys(item))


def names_of(key: DebounceKey) -> tuple[str, str, str]:
    """The pending mark, the time of the last push, and the reservation."""
    assert key.classic is not None
    mark, last_push = key.classic
    return mark, last_push, f"deferrable.debounce.{last_push}"


def server_time(client: "redis.Redis") -> float:
    seconds, microseconds = client.time()  # type: ignore[misc]
    return float(seconds + microseconds / 1e6)


def is_about(milliseconds: object, seconds: float) -> bool:
    """A life that began a moment ago."""
    assert isinstance(milliseconds, int)
    return (seconds - 5) * 1000 < milliseconds <= math.ceil(seconds * 1000)


class OldProducer:
    """Decides and writes as the old library does, by its own wall clock."""

    def __init__(self, client: "redis.Redis", key: DebounceKey, ahead_seconds: float = 0) -> None:
        self.client = client
        self.mark, self.last_push, _ = names_of(key)
        self.ahead_seconds = ahead_seconds

    def decide(self, window_seconds: float) -> tuple[str, float]:
        pushed = self.client.get(self.last_push)
        if self.client.get(self.mark):
            return "skip", 0
        if pushed is None:
            return "now", 0
        gone_seconds = self.time() - float(str(pushed))
        if gone_seconds > window_seconds:
            return "now", 0
        return "delayed", math.ceil(window_seconds - gone_seconds)

    def push_now(self, window_seconds: float) -> None:
        life = int(2 * window_seconds * 1000)
        self.client.set(self.last_push, repr(self.time()), px=life)

    def push_delayed(self, delay_seconds: float, window_seconds: float) -> None:
        life = int(2 * window_seconds * 1000)
        self.client.set(self.last_push, f"{self.time() + delay_seconds:.17g}", px=life)
        self.client.set(self.mark, "_", px=int(window_seconds * 1000))

    def time(self) -> float:
        return time.time() + self.ahead_seconds


# Many producers.


async def test_of_fifty_producers_with_connections_of_their_own_one_pushes_now(
    redis_url: str, key: DebounceKey
) -> None:
    stores = [RedisDebounceStore(redis_url) for _ in range(50)]

    reservations = await asyncio.gather(
        *(store.reserve(key, 60, False, f"{number}") for number, store in enumerate(stores))
    )

    kinds = [type(each.decision) for each in reservations]
    assert (kinds.count(PushNow), kinds.count(PushDelayed), kinds.count(Skip)) == (1, 1, 48)
    for store in stores:
        await store.close()


def test_of_eight_processes_one_pushes_now(redis_url: str, key: DebounceKey) -> None:
    source = """
import asyncio, sys
from deferrable.aio.backend._redis.debounce import RedisDebounceStore
from deferrable.aio.debounce import DebounceKey
async def produce(url, text, producer):
    async with RedisDebounceStore(url) as store:
        for number in range(10):
            token = f"{producer} {number}"
            reservation = await store.reserve(DebounceKey(text), 60, False, token)
            print(type(reservation.decision).__name__)
asyncio.run(produce(*sys.argv[1:]))
"""
    processes = [
        start_python(
            ["-c", source, redis_url, key.text, f"{number}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]

    kinds = [
        line for each in processes for line in each.communicate(timeout=DEADLINE_SECONDS)[0].split()
    ]

    counts = [kinds.count(kind) for kind in ("PushNow", "PushDelayed", "Skip")]
    assert counts == [1, 1, 78]


# Whose clock.


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("ahead_seconds", [5.0, -5.0])
async def test_a_producer_whose_clock_is_wrong_decides_like_every_other(
    store: RedisDebounceStore,
    key: DebounceKey,
    shared_key: DebounceKey,
    client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    ahead_seconds: float,
    is_shared: bool,
) -> None:
    used = shared_key if is_shared else key
    before = server_time(client)
    with monkeypatch.context() as patched:
        right = time.time
        patched.setattr(time, "time", lambda: right() + ahead_seconds)
        first = await store.reserve(used, 60, False, "the wrong one")
        await store.confirm(used, "the wrong one")
    second = await store.reserve(used, 60, False, "a right one")

    assert first.decision == PushNow()
    assert before <= first.available_time <= server_time(client)
    assert isinstance(second.decision, PushDelayed)
    assert 58 <= second.decision.delay_seconds <= 60


async def test_an_injected_clock_decides_in_the_place_of_the_servers(
    redis_url: str, key: DebounceKey
) -> None:
    clock = MovingClock()
    async with RedisDebounceStore(redis_url, clock=clock) as store:
        await store.reserve(key, 60, False, "1")
        await store.confirm(key, "1")
        clock.advance(60.5)

        assert (await store.reserve(key, 60, False, "2")).decision == PushNow()


async def test_moments_keep_their_microseconds(redis_url: str, key: DebounceKey) -> None:
    clock = MovingClock(1_712_345_678.987_653)
    async with RedisDebounceStore(redis_url, clock=clock) as store:
        reservation = await store.reserve(key, 60.000_001, True, "1")

    assert reservation.available_time == 1_712_345_678.987_653 + 60.000_001


# What is kept, and for how long.


async def test_a_window_is_one_key_that_expires_when_it_cannot_matter_any_more(
    store: RedisDebounceStore, key: DebounceKey, client: "redis.Redis"
) -> None:
    await store.reserve(key, 30, False, "1")
    reserved = client.keys(f"*{key.text}*")
    await store.confirm(key, "1")

    assert client.keys(f"*{key.text}*") == reserved == [f"deferrable.debounce.{key.text}"]
    assert is_about(client.pttl(f"deferrable.debounce.{key.text}"), 60)


async def test_a_window_decided_on_by_an_injected_clock_outlives_a_test(
    redis_url: str, key: DebounceKey, client: "redis.Redis"
) -> None:
    async with RedisDebounceStore(redis_url, clock=MovingClock()) as store:
        await store.reserve(key, 0.001, False, "1")

    assert is_about(client.pttl(f"deferrable.debounce.{key.text}"), 3600)


async def test_a_time_is_written_as_the_old_librarys_python_wrote_it(
    redis_url: str, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    clock = MovingClock(1_712_345_678.1)
    async with RedisDebounceStore(redis_url, clock=clock) as store:
        await store.reserve(shared_key, 60, False, "1")
        await store.confirm(shared_key, "1")

    assert client.get(names_of(shared_key)[1]) == "1712345678.1"


@pytest.mark.parametrize("always_delay", [False, True])
async def test_a_window_put_back_to_nothing_leaves_no_key(
    store: RedisDebounceStore,
    key: DebounceKey,
    shared_key: DebounceKey,
    client: "redis.Redis",
    always_delay: bool,
) -> None:
    for used in (key, shared_key):
        await store.reserve(used, 30, always_delay, "1")
        await store.restore(used, "1")

    assert client.exists(f"deferrable.debounce.{key.text}", *names_of(shared_key)) == 0


async def test_a_push_now_leaves_what_the_old_library_leaves(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    reservation = await store.reserve(shared_key, 30, False, "1")
    await store.confirm(shared_key, "1")

    mark, last_push, reserved = names_of(shared_key)
    assert client.exists(mark, reserved) == 0
    assert float(str(client.get(last_push))) == reservation.available_time
    assert is_about(client.pttl(last_push), 60)


async def test_a_delayed_push_leaves_what_the_old_library_leaves_with_a_mark_for_the_delay(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    OldProducer(client, shared_key, ahead_seconds=-12).push_now(30)
    reservation = await store.reserve(shared_key, 30, False, "1")
    await store.confirm(shared_key, "1")

    mark, last_push, reserved = names_of(shared_key)
    assert isinstance(reservation.decision, PushDelayed)
    assert client.get(mark) == "_"
    assert is_about(client.pttl(mark), reservation.decision.delay_seconds)
    assert float(str(client.get(last_push))) == reservation.available_time
    assert is_about(client.pttl(last_push), 60)
    assert client.exists(reserved) == 0


@pytest.mark.parametrize("always_delay", [False, True])
async def test_a_dead_producer_leaves_nothing_of_the_old_library_beyond_ten_seconds(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis", always_delay: bool
) -> None:
    await store.reserve(shared_key, 60, always_delay, "dies")

    names = [name for name in names_of(shared_key) if client.exists(name)]
    assert len(names) == 2
    assert all(is_about(client.pttl(name), 10) for name in names)


async def test_a_short_mark_is_kept_for_less_than_the_reservation(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    await store.reserve(shared_key, 6.5, True, "1")

    assert is_about(client.pttl(names_of(shared_key)[0]), 6.5)


async def test_a_failed_push_gives_the_old_library_its_time_back_with_its_life(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    OldProducer(client, shared_key, ahead_seconds=-40).push_now(30)
    _, last_push, _ = names_of(shared_key)
    before = client.get(last_push)
    client.pexpire(last_push, 20_000)
    decision = (await store.reserve(shared_key, 30, False, "1")).decision
    await store.restore(shared_key, "1")

    assert decision == PushNow()
    assert client.get(last_push) == before
    assert is_about(client.pttl(last_push), 20)


# Both generations.


async def test_the_old_library_delays_after_our_push(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    await store.reserve(shared_key, 60, False, "1")
    during = OldProducer(client, shared_key).decide(60)
    await store.confirm(shared_key, "1")
    after = OldProducer(client, shared_key).decide(60)

    assert (during[0], after[0]) == ("delayed", "delayed")


async def test_the_old_library_skips_while_our_item_is_pending(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    await store.reserve(shared_key, 60, True, "1")
    during = OldProducer(client, shared_key).decide(60)
    await store.confirm(shared_key, "1")
    after = OldProducer(client, shared_key).decide(60)

    assert (during[0], after[0]) == ("skip", "skip")


async def test_we_delay_after_a_push_of_the_old_library(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    OldProducer(client, shared_key).push_now(60)

    decision = (await store.reserve(shared_key, 60, False, "1")).decision

    assert isinstance(decision, PushDelayed)


async def test_we_skip_while_an_item_of_the_old_library_is_pending(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    OldProducer(client, shared_key).push_delayed(20, 60)

    decision = (await store.reserve(shared_key, 60, False, "1")).decision

    assert isinstance(decision, Skip)


async def test_we_do_not_skip_for_a_mark_of_the_old_library_whose_item_is_available(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    OldProducer(client, shared_key, ahead_seconds=-25).push_delayed(20, 60)

    decision = (await store.reserve(shared_key, 60, False, "1")).decision

    assert isinstance(decision, PushDelayed)


async def test_a_push_now_of_an_old_producer_whose_clock_is_ahead_silences_nobody(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    OldProducer(client, shared_key, ahead_seconds=5).push_now(60)

    decision = (await store.reserve(shared_key, 60, False, "1")).decision

    assert decision == PushDelayed(60)


async def test_a_mark_of_the_old_library_with_nothing_pending_ends_with_our_next_push(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    OldProducer(client, shared_key, ahead_seconds=-100).push_delayed(1, 60)
    decision = (await store.reserve(shared_key, 60, False, "1")).decision
    await store.confirm(shared_key, "1")

    assert decision == PushNow()
    assert OldProducer(client, shared_key).decide(60)[0] == "delayed"


async def test_what_the_old_library_writes_during_our_push_stays(
    store: RedisDebounceStore, shared_key: DebounceKey, client: "redis.Redis"
) -> None:
    _, last_push, _ = names_of(shared_key)
    for end in (store.confirm, store.restore):
        await store.reserve(shared_key, 60, False, "1")
        OldProducer(client, shared_key).push_delayed(59, 60)
        written = client.get(last_push)
        decision = (await store.reserve(shared_key, 60, False, "2")).decision
        await end(shared_key, "1")

        assert isinstance(decision, Skip)
        assert client.get(last_push) == written
        client.delete(*names_of(shared_key))


async def test_groups_share_the_window_of_a_classic_item_as_they_did(
    store: RedisDebounceStore, shared_key: DebounceKey
) -> None:
    of_another_group = DebounceKey("another identity", shared_key.classic)
    await store.reserve(shared_key, 60, False, "1")
    await store.reserve(of_another_group, 60, False, "2")
    await store.restore(shared_key, "1")

    assert isinstance((await store.reserve(shared_key, 60, False, "3")).decision, Skip)


# On a cluster.


async def test_on_a_cluster_every_window_is_one_key_of_ours(shared_key: DebounceKey) -> None:
    # The nodes' own port is 10,000 higher.
    port = next(port for port in iter(free_port, None) if port <= 55_535)
    with start_redis(port, {"cluster-enabled": "yes"}) as server:
        client = redis.Redis(port=server.port, decode_responses=True)
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        await wait_until(
            lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")),
            "the cluster serves every slot",
        )
        cluster = redis.asyncio.RedisCluster(host=server.host, port=server.port)
        async with RedisDebounceStore(cluster) as store:
            await store.reserve(shared_key, 60, False, "1")
            await store.confirm(shared_key, "1")
            second = await store.reserve(shared_key, 60, False, "2")
            await store.restore(shared_key, "2")

        assert isinstance(second.decision, PushDelayed)
        assert client.keys("*") == [f"deferrable.debounce.{shared_key.text}"]
        client.close()
        await cluster.aclose()


# What is passed in.


async def test_clients_of_both_kinds_lend_their_settings_and_stay_as_they_are(
    redis_url: str, key: DebounceKey
) -> None:
    blocking = redis.Redis.from_url(redis_url, decode_responses=True)
    awaiting = redis.asyncio.Redis.from_url(redis_url)
    async with RedisDebounceStore(blocking) as one, RedisDebounceStore(awaiting) as other:
        await one.reserve(key, 60, False, "1")

        assert isinstance((await other.reserve(key, 60, False, "2")).decision, PushDelayed)

    assert blocking.ping()
    assert await awaiting.ping()
    blocking.close()
    await awaiting.aclose()


def test_something_that_is_no_client_is_refused() -> None:
    with pytest.raises(InvalidOptions):
        RedisDebounceStore(object())  # type: ignore[arg-type]


async def test_a_redis_that_cannot_be_reached_is_reported_as_unavailable(key: DebounceKey) -> None:
    async with RedisDebounceStore("redis://127.0.0.1:1/0") as store:
        with pytest.raises(BackendUnavailable):
            await store.reserve(key, 60, False, "1")
