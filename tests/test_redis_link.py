"""The link to a Redis: whose settings it takes, and what it does when connections break."""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from faces import wait_here
from redis.credentials import CredentialProvider
from redis_proxy import wire_to
from redis_server import RedisServer, start_redis
from redis_topologies import Cluster, start_cluster, start_sentinel, start_tls

from deferrable.aio.backend._redis import connection as _redis_connection
from deferrable.aio.backend._redis import link as _redis
from deferrable.aio.backend._redis.link import RedisLink, RedisLinks, RedisSettings, Script, script
from deferrable.errors import BackendError, BackendUnavailable, InvalidOptions
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

FAR = "redis://far.example:6390/3"


def same_place(*clients: object) -> bool:
    return len({RedisSettings.of(client).address for client in clients}) == 1


class TestSettings:
    def test_clients_of_both_kinds_and_a_url_of_one_database_have_one_address(self) -> None:
        assert same_place(
            FAR,
            redis.Redis(host="far.example", port=6390, db=3),
            redis.asyncio.Redis(host="far.example", port=6390, db=3, decode_responses=True),
            redis.Redis.from_url(FAR),
            redis.asyncio.Redis.from_url(FAR),
            redis.asyncio.Redis(connection_pool=redis.asyncio.BlockingConnectionPool.from_url(FAR)),
        )

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://h/notanumber", "'notanumber'"),
            ("redis://h/3x", "'3x'"),
            ("rediss://h:1/1/2", "'1/2'"),
            ("redis://h/%33x?client_name=a", "'3x'"),
            ("redis://h/-1", "'-1'"),
            ("redis://h?db=-1", "-1"),
            ("redis://:12/secret?x@h", "the path"),
        ],
    )
    def test_a_database_that_is_no_number_is_refused(self, url: str, shown: str) -> None:
        with pytest.raises(InvalidOptions, match="database") as caught:
            RedisSettings.of(url)

        assert shown in str(caught.value)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("end", ["", "/", "/0", "/0/", "?db=0", "/%30"])
    def test_database_0_may_be_left_out(self, end: str) -> None:
        assert same_place(f"redis://h{end}", "redis://h:6379/0")

    @pytest.mark.parametrize(
        "other",
        [
            "redis://far.example:6390/4",
            "redis://far.example:6391/3",
            "redis://near.example:6390/3",
            "unix:///far.example?db=3",
        ],
    )
    def test_another_database_has_another_address(self, other: str) -> None:
        assert not same_place(FAR, other)

    def test_clients_of_one_socket_have_one_address(self) -> None:
        assert same_place(
            "unix:///run/redis.sock?db=2",
            redis.Redis(unix_socket_path="/run/redis.sock", db=2),
            redis.asyncio.Redis(unix_socket_path="/run/redis.sock", db=2),
        )

    def test_settings_of_settings_are_the_same(self) -> None:
        settings = RedisSettings.of(FAR)

        assert RedisSettings.of(settings) is settings

    @pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
    def test_user_and_password_are_taken_and_never_shown(self, kind: Any) -> None:
        settings = RedisSettings.of(kind(username="ann", password="secret"))

        connection = settings.connection()

        assert (connection.username, connection.password) == ("ann", "secret")
        assert "secret" not in repr(settings) + settings.where()

    @pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
    def test_time_outs_retries_and_decoding_stay_the_clients_own(self, kind: Any) -> None:
        client = kind(
            socket_timeout=1,
            socket_connect_timeout=1,
            retry_on_error=[redis.ReadOnlyError],
            decode_responses=True,
            encoding="latin-1",
            max_connections=2,
            health_check_interval=7,
            protocol=3,
        )

        connection = RedisSettings.of(client).connection()

        assert connection.socket_timeout is None
        assert connection.retry.get_retries() == 0
        assert connection.health_check_interval == 0
        assert not connection.encoder.decode_responses
        assert connection.encoder.encoding == "utf-8"

    @pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
    def test_tls_settings_are_taken(self, kind: Any) -> None:
        client = kind(
            ssl=True,
            ssl_ca_certs="ca.pem",
            ssl_certfile="cert.pem",
            ssl_keyfile="key.pem",
            ssl_check_hostname=False,
            ssl_cert_reqs="optional",
            ssl_ciphers="ALL",
        )

        connection = RedisSettings.of(client).connection()

        assert isinstance(connection, redis.asyncio.SSLConnection)
        assert (connection.ca_certs, connection.certfile, connection.keyfile) == (
            "ca.pem",
            "cert.pem",
            "key.pem",
        )
        assert connection.ssl_context.check_hostname is False
        assert connection.ssl_context.ciphers == "ALL"

    def test_a_tls_url_verifies_the_server(self) -> None:
        connection = RedisSettings.of("rediss://far.example").connection()

        assert isinstance(connection, redis.asyncio.SSLConnection)
        assert connection.ssl_context.check_hostname

    async def test_a_blocking_credential_provider_is_asked_in_a_thread(self) -> None:
        threads: list[threading.Thread] = []

        class Provider(CredentialProvider):
            def get_credentials(self) -> tuple[str, str]:
                threads.append(threading.current_thread())
                return "ann", "secret"

        client = redis.Redis(credential_provider=Provider())
        connection = RedisSettings.of(client).connection()

        credentials = await connection.credential_provider.get_credentials_async()

        assert credentials == ("ann", "secret")
        assert threads != [threading.current_thread()]

    def test_an_awaitable_credential_provider_is_taken_as_it_is(self) -> None:
        class Provider(CredentialProvider):
            async def get_credentials_async(self) -> tuple[str, str]:
                return "ann", "secret"

        provider = Provider()
        client = redis.asyncio.Redis(credential_provider=provider)

        assert RedisSettings.of(client).connection().credential_provider is provider

    def test_an_async_connect_function_is_taken(self) -> None:
        async def connect(connection: Any) -> None:
            await connection.on_connect()

        client = redis.asyncio.Redis(redis_connect_func=connect)

        assert RedisSettings.of(client).connection().redis_connect_func is connect

    def test_a_blocking_connect_function_is_refused(self) -> None:
        client = redis.Redis(redis_connect_func=lambda: None)

        with pytest.raises(InvalidOptions, match="redis_connect_func"):
            RedisSettings.of(client)

    def test_a_tls_option_that_only_blocking_clients_have_is_refused(self) -> None:
        client = redis.Redis(ssl=True, ssl_validate_ocsp=True)

        with pytest.raises(InvalidOptions, match="ssl_validate_ocsp"):
            RedisSettings.of(client)

    def test_connections_of_a_class_of_ones_own_are_refused_unless_they_are_asyncio(self) -> None:
        class Mine(redis.Connection):
            pass

        class MineToo(redis.asyncio.Connection):
            pass

        blocking = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Mine))
        awaiting = redis.asyncio.Redis(
            connection_pool=redis.asyncio.ConnectionPool(connection_class=MineToo)
        )

        with pytest.raises(InvalidOptions, match="Mine"):
            RedisSettings.of(blocking)
        assert isinstance(RedisSettings.of(awaiting).connection(), MineToo)

    def test_settings_of_a_class_of_ones_own_are_taken(self) -> None:
        class Mine(redis.asyncio.Connection):
            def __init__(self, tunnel: str, **kwargs: Any) -> None:
                super().__init__(**kwargs)
                self.tunnel = tunnel

        pool = redis.asyncio.ConnectionPool(connection_class=Mine, tunnel="t", encoding="latin-1")

        connection = RedisSettings.of(redis.asyncio.Redis(connection_pool=pool)).connection()

        assert connection.tunnel == "t"
        assert connection.encoder.encoding == "utf-8"

    @pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
    def test_settings_that_a_later_redis_py_adds_stay_the_clients_own(self, kind: Any) -> None:
        client = kind(host="far.example", username="ann", ssl=True)
        client.connection_pool.connection_kwargs |= {
            "of_tomorrow": object(),
            "ssl_of_tomorrow": None,
        }

        connection = RedisSettings.of(client).connection()

        assert (connection.host, connection.username) == ("far.example", "ann")

    @pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.Sentinel])
    def test_a_sentinel_client_of_a_later_redis_py_lends_where_and_who(self, kind: Any) -> None:
        manager = kind([("one.example", 26379)], password="primary")
        pools = [manager.sentinels[0].connection_pool, manager.master_for("mail").connection_pool]
        for pool in pools:
            pool.connection_kwargs["of_tomorrow"] = object()

        settings = RedisSettings.of(manager.master_for("mail"))

        assert settings.sentinels[0].node == ("one.example", 26379)
        assert settings.connection(("found.example", 6379)).password == "primary"

    def test_a_cluster_client_of_a_later_redis_py_lends_where_and_who(self) -> None:
        client = redis.asyncio.RedisCluster(host="one.example", port=7000, password="secret")
        client.nodes_manager.connection_kwargs["of_tomorrow"] = object()

        connection = RedisSettings.of(client).connection(("two.example", 7001))

        assert (connection.host, connection.password) == ("two.example", "secret")

    def test_a_later_tls_setting_that_cannot_be_honoured_is_refused(self) -> None:
        client = redis.Redis(ssl=True)
        client.connection_pool.connection_kwargs["ssl_of_tomorrow"] = "strict"

        with pytest.raises(InvalidOptions, match="ssl_of_tomorrow"):
            RedisSettings.of(client)

    @pytest.mark.parametrize(
        "value", [None, 7, object(), b"redis://localhost", "http://localhost", "localhost:6379"]
    )
    def test_what_is_no_redis_is_refused(self, value: object) -> None:
        with pytest.raises(InvalidOptions):
            RedisSettings.of(value)

    def test_a_refused_url_does_not_show_its_password(self) -> None:
        with pytest.raises(InvalidOptions) as refusal:
            RedisSettings.of("http://ann:secret@localhost")

        assert "secret" not in str(refusal.value)

    def test_an_unknown_option_of_a_url_is_refused(self) -> None:
        with pytest.raises(InvalidOptions, match="compression"):
            RedisSettings.of("redis://localhost?compression=zip")

    def test_a_url_may_say_what_only_a_pool_takes(self) -> None:
        assert same_place("redis://h?max_connections=3&timeout=2", "redis://h")

    def test_a_part_of_a_password_that_looks_like_an_option_is_not_shown(self) -> None:
        with pytest.raises(InvalidOptions) as caught:
            RedisSettings.of("redis://:a?secret=x@h")

        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.Sentinel])
    def test_a_sentinel_client_lends_service_sentinels_and_credentials(self, kind: Any) -> None:
        manager = kind(
            [("one.example", 26379), ("two.example", 26380)],
            min_other_sentinels=1,
            sentinel_kwargs={"password": "sentinels"},
            password="primary",
            db=2,
        )

        settings = RedisSettings.of(manager.master_for("mail"))

        assert settings.service_name == "mail"
        assert [sentinel.node for sentinel in settings.sentinels] == [
            ("one.example", 26379),
            ("two.example", 26380),
        ]
        assert settings.sentinels[0].connection().password == "sentinels"
        assert settings.connection(("found.example", 6379)).password == "primary"
        assert settings.min_other_sentinels == 1
        assert "mail" in repr(settings)

    @pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.Sentinel])
    def test_a_sentinel_client_of_replicas_is_refused(self, kind: Any) -> None:
        manager = kind([("one.example", 26379)])

        with pytest.raises(InvalidOptions, match="replicas"):
            RedisSettings.of(manager.slave_for("mail"))

    def test_a_cluster_client_lends_its_startup_nodes(self) -> None:
        client = redis.asyncio.RedisCluster(host="one.example", port=7000, password="secret")

        settings = RedisSettings.of(client)

        assert settings.is_cluster
        assert settings.startup_nodes == (("one.example", 7000),)
        assert settings.connection(("two.example", 7001)).password == "secret"
        assert "secret" not in repr(settings)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture
async def links(server: RedisServer) -> AsyncIterator[RedisLinks]:
    links = RedisLinks(RedisSettings.of(server.url))
    yield links
    await links.close()


@pytest.fixture
async def link(links: RedisLinks) -> RedisLink:
    return links.here()


def connections_of(server: RedisServer) -> int:
    """How many connections the server has, without the one that asks."""
    with server.client() as client:
        return len(client.client_list()) - 1


class TestCalls:
    async def test_replies_are_bytes_numbers_none_and_lists(self, link: RedisLink) -> None:
        replies = await link.call(
            ("SET", "a", "\xe4"), ("GET", "a"), ("GET", "b"), ("INCR", "n"), ("MGET", "a", "b")
        )

        assert replies == [b"OK", b"\xc3\xa4", None, 1, [b"\xc3\xa4", None]]

    async def test_replies_stay_bytes_when_the_client_decodes(self, server: RedisServer) -> None:
        client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
        links = RedisLinks(RedisSettings.of(client))

        _, reply = await links.here().call(("SET", "a", b"\xff"), ("GET", "a"))
        await links.close()

        assert reply == b"\xff"

    async def test_an_error_reply_is_raised_in_our_words_with_the_clients_own_as_cause(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        await link.call(("SET", "a", "text"))

        with pytest.raises(BackendError, match=f"{server.port}.*WRONGTYPE") as refusal:
            await link.call(("LPUSH", "a", "1"))

        assert isinstance(refusal.value.__cause__, redis.ResponseError)
        assert not isinstance(refusal.value, BackendUnavailable)
        assert await link.call(("GET", "a")) == [b"text"]

    async def test_callers_at_once_share_a_connection_and_each_gets_its_own_replies(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        replies = await asyncio.gather(
            *(link.call(("ECHO", number), ("ECHO", -number)) for number in range(200))
        )

        assert replies == [[b"%d" % number, b"%d" % -number] for number in range(200)]
        assert connections_of(server) == 1

    async def test_a_long_command_and_a_long_reply_arrive_whole(self, link: RedisLink) -> None:
        value = os.urandom(8_000_000)

        replies = await asyncio.gather(*(link.call(("ECHO", value)) for _ in range(4)))

        assert replies == [[value]] * 4

    async def test_who_gives_up_takes_nobody_elses_reply(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        await link.call(("PING",))
        calls = [asyncio.create_task(link.call(("ECHO", number))) for number in range(10)]
        await asyncio.sleep(0)

        calls[0].cancel()
        calls[5].cancel()
        replies = await asyncio.gather(*calls, return_exceptions=True)

        kept = [number for number in range(10) if number not in (0, 5)]
        assert [replies[number] for number in kept] == [[b"%d" % number] for number in kept]
        assert await link.call(("ECHO", "after")) == [b"after"]
        assert connections_of(server) == 1

    async def test_what_cannot_be_packed_disturbs_nobody(self, link: RedisLink) -> None:
        with pytest.raises(TypeError):
            await link.call(("SET", "a", object()))

        assert await link.call(("ECHO", "after")) == [b"after"]


class TestScripts:
    async def test_a_script_runs_though_the_server_does_not_know_it(self, link: RedisLink) -> None:
        script = Script("return {KEYS[1], ARGV[1]}")

        assert await link.run(script, ["key"], ["argument"]) == [b"key", b"argument"]

    async def test_a_script_runs_after_the_server_has_forgotten_it(self, link: RedisLink) -> None:
        script = Script("return redis.call('INCR', KEYS[1])")
        await link.run(script, ["key"])

        await link.call(("SCRIPT", "FLUSH"))

        assert await link.run(script, ["key"]) == 2

    async def test_a_script_that_fails_says_so(self, link: RedisLink) -> None:
        with pytest.raises(BackendError, match="nonsense"):
            await link.run(Script("return nonsense()"), ["key"])

    async def test_every_script_of_the_package_is_shipped_and_compiles(
        self, link: RedisLink
    ) -> None:
        folder = Path(_redis.__file__).parent / "lua"
        names = [path.stem for path in folder.glob("dockets_*.lua")]

        replies = await link.call(*[("SCRIPT", "LOAD", script(name).source) for name in names])

        assert replies == [script(name).sha.encode() for name in names]
        assert len(names) >= 9


class TestBrokenConnections:
    async def test_nobody_there_is_unavailable_at_once(self, server: RedisServer) -> None:
        server.stop()
        links = RedisLinks(RedisSettings.of(server.url))

        with pytest.raises(BackendUnavailable, match=str(server.port)) as failure:
            await links.here().call(("PING",))

        # Not a TimeoutError: nobody waited for the end of `CONNECT_SECONDS`.
        assert isinstance(failure.value.__cause__, redis.ConnectionError)

    async def test_a_wrong_password_is_refused_and_not_shown(self) -> None:
        with start_redis(config={"requirepass": "right"}) as server:
            for url in (server.url, server.url.replace("//", "//:wrong-one@")):
                links = RedisLinks(RedisSettings.of(url))

                with pytest.raises(BackendError, match=str(server.port)) as refusal:
                    await links.here().call(("PING",))

                assert not isinstance(refusal.value, BackendUnavailable)
                assert "wrong-one" not in str(refusal.value)
                await links.close()

    async def test_the_right_password_opens(self) -> None:
        with start_redis(config={"requirepass": "right"}) as server:
            links = RedisLinks(RedisSettings.of(server.url.replace("//", "//:right@")))

            assert await links.here().call(("PING",)) == [b"PONG"]
            await links.close()

    async def test_a_database_that_there_is_not_is_refused(self, server: RedisServer) -> None:
        links = RedisLinks(RedisSettings.of(server.url.replace("/0", "/1000")))

        with pytest.raises(BackendError, match="DB index"):
            await links.here().call(("PING",))

    async def test_a_server_that_goes_away_is_unavailable_and_one_that_is_back_is_used(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        waiting = asyncio.create_task(link.call(("BLPOP", "nothing", 10), deadline_seconds=15))
        await wait_until(lambda: is_blocked(server), "the call is under way")

        server.kill()
        with pytest.raises(BackendUnavailable, match="went away"):
            await waiting
        with pytest.raises(BackendUnavailable, match="cannot be reached"):
            await link.call(("PING",))
        server.restart()

        assert await link.call(("PING",)) == [b"PONG"]

    @pytest.mark.parametrize("has_been_noticed", [True, False])
    async def test_a_connection_that_was_closed_while_idle_is_opened_again_before_sending(
        self,
        server: RedisServer,
        link: RedisLink,
        has_been_noticed: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(_redis_connection, "_IDLE_SECONDS", 0)
        await link.call(("PING",))
        with server.client() as client:
            client.execute_command("CLIENT KILL TYPE normal")
        if has_been_noticed:
            await wait_until(lambda: not link.is_connected, "the end was noticed")
        else:  # The loop does not see it: nothing is awaited meanwhile.
            wait_here(lambda: connections_of(server) == 0, "the connection is closed")

        assert await link.call(("INCR", "n")) == [1]

    async def test_a_silent_server_is_given_up_and_nothing_is_sent_to_it_twice(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        await link.call(("PING",))
        server.freeze()

        with pytest.raises(BackendUnavailable, match="in time"):
            await link.call(("INCR", "n"), deadline_seconds=0.1)
        server.thaw()

        await wait_until(lambda: server_value(server, "n"), "the command has arrived")
        assert await link.call(("INCR", "n")) == [2]

    async def test_a_server_that_closes_right_after_the_greeting_is_unavailable_at_once(
        self,
    ) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            greeting = await reader.read(1000)
            writer.write(b"+OK\r\n" * greeting.count(b"CLIENT"))
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1") as listener:
            port = listener.sockets[0].getsockname()[1]
            links = RedisLinks(RedisSettings.of(f"redis://127.0.0.1:{port}"))
            for _ in range(20):
                with pytest.raises(BackendUnavailable, match=str(port)) as failure:
                    await links.here().call(("PING",))
                assert not isinstance(failure.value.__cause__, redis.TimeoutError)

    async def test_everybody_on_a_connection_that_breaks_hears_of_it(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        await link.call(("PING",))
        server.freeze()
        calls = [asyncio.create_task(link.call(("PING",))) for _ in range(3)]
        await asyncio.sleep(0)

        server.kill()
        failures = await asyncio.gather(*calls, return_exceptions=True)

        assert [type(failure) for failure in failures] == [BackendUnavailable] * 3
        assert len({id(failure) for failure in failures}) == 3

    @pytest.mark.parametrize(
        ("config", "code"),
        [
            ({"replicaof": "127.0.0.1 1"}, "READONLY"),
            ({"min-replicas-to-write": "1"}, "NOREPLICAS"),
        ],
    )
    async def test_a_server_that_cannot_write_now_is_worth_trying_again(
        self, config: dict[str, str], code: str
    ) -> None:
        with start_redis(config=config) as server:
            links = RedisLinks(RedisSettings.of(server.url))

            with pytest.raises(BackendUnavailable, match=code):
                await links.here().call(("SET", "a", "1"))
            await links.close()

    async def test_a_command_that_the_user_may_not_use_is_refused_with_advice(self) -> None:
        with start_redis(config={"user default": "on nopass ~* +@all -lpush"}) as server:
            links = RedisLinks(RedisSettings.of(server.url))

            with pytest.raises(BackendError, match="ACL SETUSER"):
                await links.here().call(("LPUSH", "a", "1"))
            await links.close()


def server_value(server: RedisServer, key: str) -> bytes | None:
    with server.client() as client:
        value: bytes | None = client.get(key)
        return value


class TestBlockingCommands:
    async def test_a_wait_does_not_hold_up_other_commands(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        async with link.blocking("list") as line:
            waiting = asyncio.create_task(line.call(("BLPOP", "list", 5), deadline_seconds=10))

            await wait_until(lambda: is_blocked(server), "the command waits")
            await link.call(("LPUSH", "list", "value"))

            assert await waiting == [[b"list", b"value"]]

    async def test_a_wait_can_be_ended_from_outside(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        async with link.blocking("list") as line:
            waiting = asyncio.create_task(line.call(("BLPOP", "list", 20), deadline_seconds=25))
            await wait_until(lambda: is_blocked(server), "the command waits")

            has_ended = await line.end_wait()

            assert has_ended
            assert await waiting == [None]
            assert not await line.end_wait()

    async def test_a_cancelled_wait_ends_on_the_server_too(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        async with link.blocking("list") as line:
            waiting = asyncio.create_task(line.call(("BLPOP", "list", 20), deadline_seconds=25))
            await wait_until(lambda: is_blocked(server), "the command waits")

            waiting.cancel()
            await asyncio.wait([waiting])

        await wait_until(lambda: not is_blocked(server), "the server has noticed")
        await link.call(("LPUSH", "list", "value"))
        assert await link.call(("LRANGE", "list", 0, -1)) == [[b"value"]]

    async def test_the_connection_of_a_wait_is_used_again(
        self, server: RedisServer, link: RedisLink
    ) -> None:
        for _ in range(5):
            async with link.blocking("list") as line:
                await line.call(("BLPOP", "list", 0.01))

        assert connections_of(server) == 1


def is_blocked(server: RedisServer) -> bool:
    with server.client() as client:
        return any("b" in each["flags"] for each in client.client_list())


class TestLoopsAndProcesses:
    async def test_close_closes_every_connection_and_the_next_call_opens_one(
        self, server: RedisServer, links: RedisLinks
    ) -> None:
        await links.here().call(("PING",))
        async with links.here().blocking("list") as line:
            await line.call(("PING",))

        await links.close()
        await links.close()

        await wait_until(lambda: connections_of(server) == 0, "the connections are closed")
        assert await links.here().call(("PING",)) == [b"PONG"]

    async def test_who_gives_up_while_a_connection_is_opened_leaves_none_behind(
        self, server: RedisServer, links: RedisLinks
    ) -> None:
        async def use() -> None:
            await links.here().call(("PING",))
            async with links.here().blocking("list") as line:
                await line.call(("PING",))

        for passes in range(40):
            using = asyncio.create_task(use())
            for _ in range(passes):
                await asyncio.sleep(0.0001)
            using.cancel()
            await asyncio.wait([using])
            await links.close()

        await wait_until(lambda: connections_of(server) == 0, "the connections are closed")

    async def test_what_is_under_way_when_the_link_is_closed_is_unavailable(
        self, server: RedisServer, links: RedisLinks
    ) -> None:
        link = links.here()
        waiting = asyncio.create_task(link.call(("BLPOP", "list", 10), deadline_seconds=15))
        await wait_until(lambda: is_blocked(server), "the command waits")

        await links.close()

        with pytest.raises(BackendUnavailable, match="closed"):
            await waiting
        with pytest.raises(BackendUnavailable, match="closed"):
            await link.call(("PING",))

    def test_each_loop_has_its_own_connections_and_leaves_none_behind(
        self, server: RedisServer
    ) -> None:
        links = RedisLinks(RedisSettings.of(server.url))

        async def call() -> Any:
            return await links.here().call(("PING",))

        for _ in range(5):
            assert asyncio.run(call()) == [b"PONG"]

        assert connections_of(server) == 0

    def test_a_loop_of_uvloop_is_as_good(self, server: RedisServer) -> None:
        uvloop = pytest.importorskip("uvloop")
        links = RedisLinks(RedisSettings.of(server.url))

        async def use() -> Any:
            link = links.here()
            async with link.blocking("list") as line:
                waiting = asyncio.create_task(line.call(("BLPOP", "list", 9), deadline_seconds=9))
                await wait_until(line.end_wait, "the wait is ended")
                await waiting
            return await asyncio.gather(*(link.call(("ECHO", n)) for n in range(50)))

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            replies = runner.run(use())

        assert replies == [[b"%d" % number] for number in range(50)]
        assert connections_of(server) == 0

    def test_connections_of_a_loop_that_was_just_closed_are_swept(
        self, server: RedisServer
    ) -> None:
        links = RedisLinks(RedisSettings.of(server.url))

        async def call() -> Any:
            return await links.here().call(("PING",))

        loop = asyncio.new_event_loop()
        loop.run_until_complete(call())
        loop.close()
        had = connections_of(server)
        asyncio.run(call())

        assert had == 1
        assert connections_of(server) == 0

    async def test_the_last_user_who_leaves_closes_the_links(
        self, server: RedisServer, links: RedisLinks
    ) -> None:
        first, second = RedisSettings.of(FAR), RedisSettings.of(FAR)  # any two objects
        links.join(first)
        links.join(second)
        await links.here().call(("PING",))

        await links.leave(first)
        had = connections_of(server)
        await links.leave(second)

        assert had == 1
        await wait_until(lambda: connections_of(server) == 0, "the connections are closed")

    async def test_a_forked_child_opens_its_own_connection_and_the_parents_works_on(
        self, server: RedisServer, links: RedisLinks
    ) -> None:
        await links.here().call(("PING",))

        def in_child() -> None:
            async def call() -> None:
                await links.here().call(("SET", "child", os.getpid()))

            asyncio.new_event_loop().run_until_complete(call())
            os._exit(0)

        child = multiprocessing.get_context("fork").Process(target=in_child)
        await asyncio.to_thread(child.start)
        await asyncio.to_thread(child.join)

        assert await links.here().call(("GET", "child")) == [str(child.pid).encode()]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with start_cluster() as cluster:
        yield cluster


LOW = "{low}"
"""A tag of slot 4,566, in the first node's half."""
HIGH = "{high}"
"""A tag of slot 14,498, in the second node's half."""


class TestClusterByUrl:
    """A URL names one server; a cluster needs a client that knows its nodes."""

    async def test_a_node_says_that_a_cluster_client_is_needed(self, cluster: Cluster) -> None:
        links = RedisLinks(RedisSettings.of(cluster.url))
        key = f"{HIGH}a"

        with pytest.raises(BackendError, match=r"node of a Redis Cluster.*RedisCluster") as first:
            await links.here().call(("SET", key, "1"))
        with pytest.raises(BackendError, match="node of a Redis Cluster"):
            await links.here().run(Script("return redis.call('GET', KEYS[1])"), [key])
        await links.close()

        assert not isinstance(first.value, BackendUnavailable)

    async def test_another_database_than_the_first_says_so_too(self, cluster: Cluster) -> None:
        links = RedisLinks(RedisSettings.of(cluster.url.replace("/0", "/1")))

        with pytest.raises(BackendError, match="RedisCluster"):
            await links.here().call(("PING",))
        await links.close()

    async def test_keys_of_several_slots_say_so_too(self, cluster: Cluster) -> None:
        links = RedisLinks(RedisSettings.of(cluster.url))

        with pytest.raises(BackendError, match=r"\{tag\}.*RedisCluster"):
            await links.here().run(Script("return 1"), [f"{LOW}a", f"{HIGH}a"])
        await links.close()


class TestCluster:
    @pytest.fixture
    async def link(self, cluster: Cluster) -> AsyncIterator[RedisLink]:
        links = RedisLinks(RedisSettings.of(redis.asyncio.RedisCluster.from_url(cluster.url)))
        yield links.here()
        await links.close()

    async def test_commands_go_to_the_node_that_holds_their_keys(self, link: RedisLink) -> None:
        for tag in (LOW, HIGH):
            assert await link.call(("SET", f"{tag}a", tag), ("GET", f"{tag}a")) == [
                b"OK",
                tag.encode(),
            ]

    async def test_scripts_go_to_the_node_that_holds_their_keys(self, link: RedisLink) -> None:
        script = Script("redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[2])")

        for tag in (LOW, HIGH):
            assert await link.run(script, [f"{tag}s", f"{tag}s"], ["x"]) == b"x"

    async def test_a_wait_goes_to_the_node_that_holds_its_key(self, link: RedisLink) -> None:
        for tag in (LOW, HIGH):
            await link.call(("LPUSH", f"{tag}list", "x"))
            async with link.blocking(f"{tag}list") as line:
                assert await line.call(("BLPOP", f"{tag}list", 1)) == [
                    [f"{tag}list".encode(), b"x"]
                ]

    def test_a_blocking_cluster_client_lends_its_settings(self, cluster: Cluster) -> None:
        with redis.RedisCluster.from_url(cluster.url) as client:
            settings = RedisSettings.of(client)

        async def call() -> Any:
            return await RedisLinks(settings).here().call(("SET", f"{HIGH}b", 1))

        assert asyncio.run(call()) == [b"OK"]

    async def test_a_slot_that_has_moved_is_followed(
        self, cluster: Cluster, link: RedisLink
    ) -> None:
        slot = redis.crc.key_slot(b"{moving}")
        await link.call(("EXISTS", "{moving}a"))
        cluster.move(slot)
        try:
            replies = await link.call(("SET", "{moving}a", 1), ("INCR", "{moving}a"))
        finally:
            there = cluster.clients[1 - cluster.owner_of(slot)]
            value = there.get("{moving}a")
            there.delete("{moving}a")
            cluster.take_back(slot)

        assert replies == [b"OK", 2]
        assert value == b"2"

    async def test_a_slot_that_is_just_moving_is_asked_for_at_its_new_node(
        self, cluster: Cluster, link: RedisLink
    ) -> None:
        slot = redis.crc.key_slot(b"{asking}")
        old = cluster.clients[cluster.owner_of(slot)]
        old.set("{asking}stays", "1")
        cluster.begin_move(slot)
        try:
            replies = await link.call(
                ("GET", "{asking}stays"),
                ("SET", "{asking}new", 1),
                ("INCR", "{asking}new"),
                key="{asking}",
            )
        finally:
            old.delete("{asking}stays")
            cluster.clients[1 - cluster.owner_of(slot)].flushdb()
            cluster.take_back(slot)

        assert replies == [b"1", b"OK", 2]

    async def test_keys_of_two_slots_are_refused_with_advice(self, link: RedisLink) -> None:
        with pytest.raises(BackendError, match="tag"):
            await link.call(("MGET", f"{LOW}a", f"{HIGH}a"))

    async def test_a_cluster_that_is_not_there_is_unavailable(self) -> None:
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=1)
        links = RedisLinks(RedisSettings.of(client))

        with pytest.raises(BackendUnavailable):
            await links.here().call(("GET", "a"))

    async def test_addresses_are_mapped_as_the_client_says(self, cluster: Cluster) -> None:
        seen = []

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            seen.append(address)
            return address

        client = redis.asyncio.RedisCluster.from_url(cluster.url, address_remap=remap)
        links = RedisLinks(RedisSettings.of(client))
        await links.here().call(("GET", f"{HIGH}a"))
        await links.close()

        assert ("127.0.0.1", cluster.nodes[1].port) in seen


class TestSentinel:
    @pytest.mark.parametrize("kind", [redis.sentinel.Sentinel, redis.asyncio.Sentinel])
    async def test_the_primary_is_the_one_that_the_sentinels_name(
        self, server: RedisServer, kind: Any
    ) -> None:
        with start_sentinel(server, "mail") as sentinel:
            manager = kind([("127.0.0.1", 1), (sentinel.host, sentinel.port)])
            links = RedisLinks(RedisSettings.of(manager.master_for("mail")))

            assert await links.here().call(("SET", "a", "1")) == [b"OK"]
            await links.close()

        assert server_value(server, "a") == b"1"

    async def test_an_unknown_service_is_refused_naming_it(self, server: RedisServer) -> None:
        with start_sentinel(server, "mail") as sentinel:
            manager = redis.asyncio.Sentinel([(sentinel.host, sentinel.port)])
            links = RedisLinks(RedisSettings.of(manager.master_for("post")))

            with pytest.raises(BackendUnavailable, match="post"):
                await links.here().call(("PING",))

    async def test_a_primary_that_is_gone_is_looked_up_again_before_anything_is_sent(
        self, server: RedisServer
    ) -> None:
        with start_redis() as successor, start_sentinel(server, "mail") as sentinel:
            manager = redis.asyncio.Sentinel([(sentinel.host, sentinel.port)])
            links = RedisLinks(RedisSettings.of(manager.master_for("mail")))
            await links.here().call(("SET", "a", "1"))

            with sentinel.client() as watch:
                watch.execute_command("SENTINEL REMOVE", "mail")
                watch.execute_command("SENTINEL MONITOR", "mail", successor.host, successor.port, 1)
            server.kill()
            await wait_until(lambda: not links.here().is_connected, "the end was noticed")

            assert await links.here().call(("SET", "b", "1")) == [b"OK"]
            await links.close()
            assert server_value(successor, "b") == b"1"

    async def test_a_replica_that_is_taken_for_the_primary_is_not_talked_to(self) -> None:
        with (
            start_redis(config={"replicaof": "127.0.0.1 1"}) as replica,
            start_sentinel(replica, "mail") as sentinel,
        ):
            manager = redis.asyncio.Sentinel([(sentinel.host, sentinel.port)])
            links = RedisLinks(RedisSettings.of(manager.master_for("mail")))

            with pytest.raises(BackendUnavailable, match="replica"):
                await links.here().call(("PING",))

    async def test_a_primary_that_became_a_replica_is_looked_up_again(
        self, server: RedisServer
    ) -> None:
        with start_redis() as successor, start_sentinel(server, "mail") as sentinel:
            manager = redis.asyncio.Sentinel([(sentinel.host, sentinel.port)])
            links = RedisLinks(RedisSettings.of(manager.master_for("mail")))
            await links.here().call(("SET", "a", "1"))

            with server.client() as old, sentinel.client() as watch:
                watch.execute_command("SENTINEL REMOVE", "mail")
                watch.execute_command("SENTINEL MONITOR", "mail", successor.host, successor.port, 1)
                old.replicaof(successor.host, successor.port)
            with pytest.raises(BackendUnavailable, match="READONLY"):
                await links.here().call(("SET", "b", "1"))

            assert await links.here().call(("SET", "b", "1")) == [b"OK"]
            await links.close()
            assert server_value(successor, "b") == b"1"


async def test_a_replica_behind_a_proxy_with_words_of_its_own_is_connected_to_again() -> None:
    with start_redis() as server, server.client() as client:
        async with wire_to(server.port) as wire:
            wire.rewording = (b"-READONLY ", b"-ERR READONLY ")
            links = RedisLinks(RedisSettings.of(wire.url))
            client.replicaof("127.0.0.1", 1)

            with pytest.raises(BackendUnavailable, match="ERR READONLY"):
                await links.here().call(("SET", "a", "1"))
            client.replicaof("NO", "ONE")

            assert await links.here().call(("SET", "a", "1")) == [b"OK"]
            assert wire.connections == 2
            await links.close()


class TestTransports:
    async def test_a_unix_socket_is_spoken_to(self, tmp_path: Path) -> None:
        path = tmp_path / "redis.sock"
        with start_redis(config={"unixsocket": str(path)}):
            links = RedisLinks(RedisSettings.of(redis.Redis(unix_socket_path=str(path))))

            assert await links.here().call(("PING",)) == [b"PONG"]
            await links.close()

    async def test_tls_is_spoken_and_verified(self, tmp_path: Path) -> None:
        with start_tls(tmp_path) as (url, certificate):
            trusting = RedisLinks(
                RedisSettings.of(redis.Redis.from_url(url, ssl_ca_certs=str(certificate)))
            )
            wary = RedisLinks(RedisSettings.of(url))

            value = os.urandom(300_000)
            replies = await asyncio.gather(
                *(trusting.here().call(("ECHO", value)) for _ in range(5))
            )
            with pytest.raises(BackendUnavailable, match="certificate"):
                await wary.here().call(("PING",))
            async with trusting.here().blocking("list") as line:
                waiting = asyncio.create_task(line.call(("BLPOP", "list", 9), deadline_seconds=9))
                await wait_until(line.end_wait, "the wait is ended")
                await waiting
            await trusting.close()

        assert replies == [[value]] * 5
