"""Blocking calls on Redis: one socket that all threads share, without a hop to another thread."""

import asyncio
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from faces import wait_here
from processes import Program, run_program
from redis_proxy import wire_to
from redis_server import RedisServer, start_redis, unique_group
from redis_topologies import start_cluster, start_sentinel, start_tls

import deferrable
from deferrable.aio.backend._redis import thread as _redis_thread
from deferrable.aio.backend._redis.link import RedisLinks, RedisSettings
from deferrable.backend import DocketsBackendFactory
from deferrable.errors import BackendError, BackendUnavailable

PRELUDE = """
import os, signal, sys, threading, time
import deferrable
from deferrable.backend import DocketsBackendFactory
from deferrable.sync import _portal as portals

instance = deferrable.Deferrable(DocketsBackendFactory({url!r}).create_backend_for_group({group!r}))

@instance.deferrable(name="job")
def job(number):
    pass

def say(*words):
    print(*words, flush=True)
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


def make_job(redis_client: Any, group: str, **options: Any) -> tuple[deferrable.Deferrable, Any]:
    factory = DocketsBackendFactory(redis_client)
    instance = deferrable.Deferrable(factory.create_backend_for_group(group))
    return instance, instance.deferrable(name="job", **options)(lambda number: number)


def numbers(url: str, group: str) -> list[int]:
    """The arguments of what was queued, oldest first. They are queued no longer."""
    with redis.Redis.from_url(url) as client:
        count = client.llen(f"queue.deferrable_{group}")
    instance, _ = make_job(url, group)
    with instance:
        found = []
        for _ in range(int(str(count))):
            envelope, item = instance.backend.queue.pop()
            assert item is not None
            found.append(int(instance._core.registry.decode(item).args[0]))
            instance.backend.queue.complete(envelope)
    return found


def test_a_blocking_later_needs_no_other_thread(redis_url: str) -> None:
    lines = run_program(
        PRELUDE.format(url=redis_url, group=unique_group())
        + """
before = threading.active_count()
receipt = job.later(1)
receipts = job.later_many([(2,), (3,)])
delayed = job.options(delay_seconds=60).later(4)
say(receipt.status, *[each.status for each in receipts], delayed.status)
say(threading.active_count() - before, portals._process._portal)
say(instance.backend.queue.stats()["available"], instance.backend.queue.stats()["delayed"])
instance.close()
"""
    )

    assert lines == ["pushed pushed pushed delayed", "0 None", "3 1"]


def test_a_debounced_later_needs_no_other_thread(redis_url: str) -> None:
    lines = run_program(
        f"""
import threading, deferrable
from deferrable.backend import DocketsBackendFactory
from deferrable.sync import _portal as portals
backend = DocketsBackendFactory({redis_url!r}).create_backend_for_group({unique_group()!r})
with deferrable.Deferrable(backend, redis_client={redis_url!r}) as instance:
    job = instance.deferrable(name="job", debounce_seconds=60)(lambda number: number)
    print(*[job.later(1).status for _ in range(3)], portals._process._portal)
"""
    )

    assert lines == ["pushed delayed skipped None"]


def test_calls_of_many_threads_each_arrive_once(redis_url: str) -> None:
    group = unique_group()
    instance, job = make_job(redis_url, group)

    with instance, ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(job.later, range(400)))

    assert len({receipt.id for receipt in receipts}) == 400
    assert sorted(numbers(redis_url, group)) == list(range(400))


def test_calls_that_wait_at_the_same_time_travel_together(server: RedisServer) -> None:
    instance, job = make_job(server.url, "a")
    with instance, server.client() as client:
        job.later(0)
        calls = client.info("commandstats")["cmdstat_lpush"]["calls"]
        line = instance.backend._core.queue._commands.links.threads._line
        sent: list[int] = []
        send = _redis_thread._Socket.send

        def note(self: Any, batch: Any) -> None:
            sent.append(len(batch))
            send(self, batch)

        with line._is_held, pytest.MonkeyPatch.context() as patch:
            patch.setattr(_redis_thread._Socket, "send", note)
            threads = [threading.Thread(target=job.later, args=(number,)) for number in range(5)]
            for thread in threads:
                thread.start()
            wait_here(lambda: len(line._waiting) == 5, "all wait")
            line._is_held.release()
            for thread in threads:
                thread.join()
            line._is_held.acquire()

        after = client.info("commandstats")["cmdstat_lpush"]["calls"]
        assert sent == [5]
        assert after - calls == 5


@pytest.mark.parametrize("is_main_first", [True, False])
def test_an_interrupt_strikes_its_own_caller_alone(
    server: RedisServer, is_main_first: bool
) -> None:
    source = PRELUDE.format(url=server.url, group="a") + textwrap.dedent(
        f"""
        from deferrable.aio.backend._redis import thread as _redis_thread

        _redis_thread.ANSWER_SECONDS = 60  # a busy machine may take long to get there
        job.later(0)
        line = instance.backend._core.queue._commands.links.threads._line
        statuses = []
        other = threading.Thread(target=lambda: statuses.append(job.later(1).status))

        def say_when_both_wait():
            while not (line._is_held.locked() and line._waiting):
                time.sleep(0.001)
            say("both wait")

        say("connected")
        sys.stdin.readline()
        threading.Thread(target=say_when_both_wait).start()
        if {is_main_first}:
            threading.Timer(0.05, other.start).start()
        else:
            other.start()
            while not line._is_held.locked():
                time.sleep(0.001)
        try:
            job.later(2)
        except KeyboardInterrupt:
            say("interrupted")
        while not statuses:
            time.sleep(0.001)
        say(*statuses, job.later(3).status)
        instance.close()
        """
    )
    with Program(source, has_input=True) as begun:
        begun.wait_for("connected")
        server.freeze()
        begun.say()
        begun.wait_for("both wait")
        begun.interrupt()
        server.thaw()
        lines, errors = begun.end()

    assert (lines, errors) == (["interrupted", "pushed pushed"], "")
    # What was not sent when the interrupt struck, never is.
    assert numbers(server.url, "a") == ([0, 2, 1, 3] if is_main_first else [0, 1, 3])


def test_a_server_that_stays_silent_is_given_up(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redis_thread, "ANSWER_SECONDS", 0.2)
    instance, job = make_job(server.url, "a")
    with instance:
        job.later(0)
        server.freeze()
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            job.later(1)
        server.thaw()

        assert job.later(2).status == "pushed"


def test_a_server_that_restarted_is_connected_to_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redis_thread, "_IDLE_SECONDS", 0.0)
    instance, job = make_job(server.url, "a")
    with instance:
        job.later(0)
        server.stop()
        with pytest.raises(BackendUnavailable, match="cannot be reached"):
            job.later(1)
        server.start()

        assert job.later(2).status == "pushed"


def test_a_connection_that_breaks_before_the_answer_sends_nothing_twice(
    server: RedisServer,
) -> None:
    async def main() -> None:
        async with wire_to(server.port) as wire:
            instance, job = make_job(wire.url, "a")
            await asyncio.to_thread(job.later, 0)
            wire.lose_reply_to(b"LPUSH")
            with pytest.raises(BackendUnavailable, match="went away"):
                await asyncio.to_thread(job.later, 1)
            await asyncio.to_thread(job.later, 2)
            await asyncio.to_thread(instance.close)

    asyncio.run(main())

    assert numbers(server.url, "a") == [0, 1, 2]


def test_a_refusal_is_told_with_its_advice_and_its_neighbours_pass(server: RedisServer) -> None:
    instance, job = make_job(server.url, "a")
    with instance, server.client() as client:
        job.later(0)
        client.set("queue.deferrable_b", "no list")
        factory = DocketsBackendFactory(server.url)
        other = deferrable.Deferrable(factory.create_backend_for_group("b"))
        broken = other.deferrable(name="job")(lambda number: number)

        with pytest.raises(BackendError, match=r"WRONGTYPE.*another program"):
            broken.later(1)
        assert job.later(2).status == "pushed"
        other.close()


def test_a_primary_that_became_a_replica_is_connected_to_again(server: RedisServer) -> None:
    instance, job = make_job(server.url, "a")
    with instance, server.client() as client:
        job.later(0)
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(BackendUnavailable, match="READONLY"):
            job.later(1)
        client.replicaof("NO", "ONE")
        connections = client.info("stats")["total_connections_received"]

        assert job.later(2).status == "pushed"
        assert client.info("stats")["total_connections_received"] == connections + 1


def test_a_forked_child_and_its_parent_have_a_socket_each(redis_url: str) -> None:
    group = unique_group()
    lines = run_program(
        PRELUDE.format(url=redis_url, group=group)
        + """
job.later(0)
pid = os.fork()
if pid == 0:
    for number in range(1, 50):
        job.later(number)
    os._exit(0)
for number in range(50, 100):
    job.later(number)
say(os.waitpid(pid, 0)[1])
instance.close()
"""
    )

    assert lines == ["0"]
    assert sorted(numbers(redis_url, group)) == list(range(100))


def test_a_socket_is_closed_with_its_instance_and_at_exit(server: RedisServer) -> None:
    lines = run_program(PRELUDE.format(url=server.url, group="a") + "job.later(0)")
    assert lines == []

    instance, job = make_job(server.url, "a")
    with server.client() as client:
        job.later(1)
        before = client.info("clients")["connected_clients"]
        instance.close()
        instance.close()
        wait_here(lambda: client.info("clients")["connected_clients"] == before - 1, "it is closed")

        assert job.later(2).status == "pushed"
        instance.close()


def test_tls_and_unix_sockets_are_spoken_to(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with start_redis(config={"unixsocket": str(path)}):
        instance, job = make_job(redis.Redis(unix_socket_path=str(path)), "a")
        with instance:
            assert job.later(0).status == "pushed"
            assert instance.backend.queue.stats()["available"] == 1
    with start_tls(tmp_path) as (url, certificate):
        client = redis.Redis.from_url(url, ssl_ca_certs=str(certificate))
        instance, job = make_job(client, "a")
        with instance, ThreadPoolExecutor(4) as pool:
            assert {each.status for each in pool.map(job.later, range(40))} == {"pushed"}
            assert instance.backend.queue.stats()["available"] == 40


@pytest.mark.parametrize("start", [start_cluster, None])
def test_a_cluster_and_a_sentinel_service_are_served_by_the_portal(start: Any) -> None:
    with ExitStack() as stack:
        if start is not None:
            url = stack.enter_context(start()).url
            client: Any = redis.RedisCluster.from_url(url)
        else:
            primary = stack.enter_context(start_redis())
            sentinel = stack.enter_context(start_sentinel(primary, "mail"))
            client = redis.Sentinel([(sentinel.host, sentinel.port)]).master_for("mail")
        instance, job = make_job(client, "{a}")
        with instance:
            assert instance.backend._core.queue._commands.links.threads is None
            assert job.later(1).status == "pushed"
            assert instance.backend.queue.stats()["available"] == 1
        client.close()


class AsyncOnly(redis.CredentialProvider):
    def get_credentials(self) -> Any:
        raise AssertionError("a loop fetches these")

    async def get_credentials_async(self) -> Any:
        return ("default", "secret")


class Blocking(redis.CredentialProvider):
    def get_credentials(self) -> Any:
        return ("default", "secret")


@pytest.mark.parametrize(("provider", "can_block"), [(AsyncOnly(), False), (Blocking(), True)])
def test_credentials_are_fetched_where_they_can_be(provider: Any, can_block: bool) -> None:
    with start_redis(config={"requirepass": "secret"}) as server:
        client = redis.Redis(port=server.port, credential_provider=provider)
        assert RedisSettings.of(client).can_block == can_block
        instance, job = make_job(client, "a")
        with instance:
            assert job.later(1).status == "pushed"

    with start_redis(config={"requirepass": "secret"}) as server:
        instance, job = make_job(redis.Redis(port=server.port, password="wrong"), "a")
        with instance, pytest.raises(BackendError, match="password"):
            job.later(1)


def test_a_redis_py_without_the_socket_is_refused_naming_its_version(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, job = make_job(redis_url, unique_group())
    monkeypatch.setattr(redis.Connection, "connect", lambda self: None)

    with instance, pytest.raises(BackendError, match=f"redis-py {redis.__version__}"):
        job.later(1)


def test_an_answer_that_is_none_closes_the_socket(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = RedisLinks(RedisSettings.of(server.url))
    assert links.threads is not None
    line = links.threads._line
    line.exchange([("PING",)])
    socket = line._socket
    assert socket is not None
    socket._reader.feed(b"?garbage\r\n")

    with pytest.raises(BackendUnavailable, match="something unexpected"):
        line.exchange([("PING",)])
    assert line.exchange([("PING",)]) == [b"PONG"]
    line.close()
