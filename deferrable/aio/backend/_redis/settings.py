"""Address and credentials of a Redis, read from the user's client or URL.

Owns the reading of a client or URL: host, socket, database, TLS, credentials, Sentinel, cluster.
It does no I/O. Other settings of the client (time-outs, retries, decoding, pool size), also those
that a later redis-py adds, are not used.

The one rule: a setting about address or credentials that redis-py's asyncio connection does not
support is refused, never dropped.
"""

import asyncio
import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote

from deferrable.aio._contract.private import private
from deferrable.aio.backend._redis.extra import CredentialProvider, redis
from deferrable.errors import InvalidOptions

__all__ = ["Node", "RedisSettings", "setting_names"]

Node: TypeAlias = tuple[str, int]
"""Host and port of one server."""

_Connection = redis.asyncio.Connection
_SSLConnection = redis.asyncio.SSLConnection
_UnixConnection = redis.asyncio.UnixDomainSocketConnection

_ASYNC_CLASSES: Mapping[type[Any], type[Any]] = {
    redis.Connection: _Connection,
    redis.SSLConnection: _SSLConnection,
    redis.UnixDomainSocketConnection: _UnixConnection,
    redis.sentinel.SentinelManagedConnection: _Connection,
    redis.sentinel.SentinelManagedSSLConnection: _SSLConnection,
    redis.asyncio.SentinelManagedConnection: _Connection,
    redis.asyncio.SentinelManagedSSLConnection: _SSLConnection,
}

_BLOCKING_CLASSES: Mapping[type[Any], type[Any]] = {
    _Connection: redis.Connection,
    _SSLConnection: redis.SSLConnection,
    _UnixConnection: redis.UnixDomainSocketConnection,
}

_WHERE_AND_WHO = frozenset(
    {
        "host",
        "port",
        "path",
        "db",
        "socket_keepalive",
        "socket_keepalive_options",
        "socket_type",
        "username",
        "password",
        "credential_provider",
        "redis_connect_func",
        "client_name",
        "driver_info",
        "lib_name",
        "lib_version",
    }
)
_TLS = "ssl_"
"""How every setting begins that says whom to believe, also one that a later redis-py adds."""

_POOLS_OWN = frozenset({"connection_class", "max_connections", "timeout"})
"""What a URL may say although no connection takes it."""

_OUR_OWN: Mapping[str, Any] = {
    "protocol": 2,
    "retry": None,
    "socket_connect_timeout": None,
    "socket_timeout": None,
}


class RedisSettings:
    """A frozen description of one Redis: where it is, and who we are there.

    Attributes:
        address: equal for two clients of one Redis database.
        is_cluster: it is a Redis Cluster.
        startup_nodes: of a cluster, where to ask for its nodes.
        address_remap: the user's function that changes an address from a cluster or a sentinel.
        service_name: of a Sentinel setup, the name of the primary.
        sentinels: of a Sentinel setup, whom to ask for it.
        min_other_sentinels: how many other sentinels one must see to be believed.
    """

    def __init__(
        self,
        connection_class: type[Any],
        options: Mapping[str, Any],
        *,
        startup_nodes: Sequence[Node] = (),
        address_remap: Callable[[Node], Node] | None = None,
        service_name: str | None = None,
        sentinels: Sequence["RedisSettings"] = (),
        min_other_sentinels: int = 0,
    ) -> None:
        self._connection_class = connection_class
        self._options = dict(options)
        self.startup_nodes = tuple(startup_nodes)
        self.address_remap = address_remap
        self.service_name = service_name
        self.sentinels = tuple(sentinels)
        self.min_other_sentinels = min_other_sentinels
        self.is_cluster = bool(self.startup_nodes)
        self.address = self._address()

    @classmethod
    def of(cls, client_or_url: object) -> "RedisSettings":
        """The settings of a redis-py client (asyncio or not, Sentinel, Cluster) or of a URL.

        Raises:
            InvalidOptions: it is something else, or has a setting that cannot be honoured here.
            BackendError: this version of redis-py does not tell a setting that matters.
        """
        if isinstance(client_or_url, RedisSettings):
            return client_or_url
        if isinstance(client_or_url, str):
            return _of_url(client_or_url)
        if isinstance(client_or_url, redis.asyncio.RedisCluster | redis.RedisCluster):
            return _of_cluster(client_or_url)
        if isinstance(client_or_url, redis.asyncio.Redis | redis.Redis):
            return _of_pool(client_or_url.connection_pool)
        raise InvalidOptions(
            f"a value of type {type(client_or_url).__name__} is not a Redis client; pass a "
            "redis.asyncio.Redis, a redis.Redis, a RedisCluster of either kind, or a URL such as redis://localhost:6379/0"
        )

    def connection(self, node: Node | None = None) -> Any:
        """A redis-py connection, not yet connected: to `node`, or to where the settings say."""
        options = {**self._options, **_OUR_OWN}
        if node is not None:
            options["host"], options["port"] = node
        return self._connection_class(**options)

    @property
    def can_block(self) -> bool:
        """Whether `blocking_connection` makes one: a server that is named, and no class or
        credentials of the user's that only asyncio can use."""
        connection_class = _BLOCKING_CLASSES.get(self._connection_class)
        if connection_class is None or self.is_cluster or self.service_name is not None:
            return False
        if self._options.get("redis_connect_func") is not None:
            return False  # it is async, or would have been refused
        provider = self._options.get("credential_provider")
        is_known = self._options.keys() <= _parameters(connection_class.__mro__)
        return is_known and (provider is None or isinstance(provider, _CredentialsFromThread))

    def blocking_connection(self, timeout_seconds: float) -> Any:
        """A redis-py connection that blocks, not yet connected; see `can_block`."""
        options = {**self._options, **_OUR_OWN}
        options["socket_connect_timeout"] = options["socket_timeout"] = timeout_seconds
        provider = options.get("credential_provider")
        if isinstance(provider, _CredentialsFromThread):
            options["credential_provider"] = provider.blocking
        return _BLOCKING_CLASSES[self._connection_class](**options)

    def where(self, node: Node | None = None) -> str:
        """The address for messages, without credentials."""
        database = self._options.get("db") or 0
        if node is None and "path" in self._options:
            return f"{self._options['path']} (database {database})"
        if node is None and self.service_name is not None:
            return f"sentinel service {self.service_name!r} (database {database})"
        if node is None and self.is_cluster:
            return "cluster " + ", ".join(f"{host}:{port}" for host, port in self.startup_nodes)
        host, port = self.node if node is None else node
        return f"{host}:{port} (database {database})"

    @property
    def node(self) -> Node:
        """Host and port as the settings say."""
        return str(self._options.get("host", "localhost")), int(self._options.get("port", 6379))

    @property
    def database(self) -> int:
        """The number of the database."""
        return int(self._options.get("db") or 0)

    def _address(self) -> Hashable:
        database = self.database
        if self.is_cluster:
            return ("cluster", frozenset(self.startup_nodes))
        if self.service_name is not None:
            asked = frozenset(sentinel.address for sentinel in self.sentinels)
            return ("sentinel", self.service_name, asked, database)
        if "path" in self._options:
            return ("unix", self._options["path"], database)
        return ("tcp", *self.node, database)

    def __repr__(self) -> str:
        return f"<RedisSettings {self.where()}>"


def _of_url(url: str) -> RedisSettings:
    # Neither the URL nor a parser's message about it is shown: both may hold a password. One with
    # a "/" in it would end the host early, and the rest pass for the port and a database.
    location, _, query = url.partition("://")[2].partition("?")
    path = location.partition("/")[2]
    try:
        options: dict[str, Any] = dict(redis.asyncio.connection.parse_url(url))
    except ValueError:
        options, path = {}, "@"
    if "@" in path and not url.startswith("unix:"):
        raise InvalidOptions(
            "that is not the URL of a Redis; write redis://USER:PASSWORD@HOST:PORT/DATABASE, "
            "rediss:// likewise, or unix://PATH, with / # ? % and @ in a password percent-encoded"
        ) from None
    if not url.startswith("unix:"):
        # What stands before an "@" may be the rest of a password.
        shown = "the path" if "@" in query else repr(unquote(path))
        _check_database(unquote(path).strip("/"), options.get("db") or 0, shown)
    connection_class = options.get("connection_class", _Connection)
    _check_names(options, connection_class, is_shown="@" not in query)
    return RedisSettings(connection_class, _kept(options, connection_class))


def setting_names(scheme: str) -> set[str]:
    """The settings that redis-py takes from a URL of that scheme."""
    classes = {"rediss": _SSLConnection, "unix": _UnixConnection}
    return _parameters(classes.get(scheme, _Connection).__mro__) | _POOLS_OWN


def _check_names(
    options: Mapping[str, Any], connection_class: type[Any], *, is_shown: bool
) -> None:
    """Refuse a setting in a URL that redis-py does not know: somebody expects it to work.

    Args:
        is_shown: whether the names may stand in a message; else they may be parts of a password.
    """
    unknown = options.keys() - _parameters(connection_class.__mro__) - _POOLS_OWN
    if unknown:
        shown = ", ".join(sorted(unknown)) if is_shown else "one of the names after the ?"
        raise InvalidOptions(
            f"redis-py's {connection_class.__name__} has no setting {shown}; correct it in the URL "
            "of the Redis, or leave it out"
        )


def _check_database(number: str, database: int, shown: str) -> None:
    """Refuse a path that redis-py takes for database 0, or for another one than is written."""
    if number and not number.isdecimal():
        raise InvalidOptions(
            f"a Redis URL ends with the number of a database, and {shown} is not a number; write "
            "redis://localhost:6379/0, or leave it out for database 0"
        )
    if database < 0:
        raise InvalidOptions(f"the database of a Redis is 0 or more, got {database}")


def _of_pool(pool: Any) -> RedisSettings:
    options = dict(pool.connection_kwargs)
    connection_class = _async_class(pool.connection_class)
    if pool.connection_class is not connection_class:
        _refuse_connect_func(options.get("redis_connect_func"), pool.connection_class)
    kept = _kept(options, connection_class)
    if getattr(pool, "service_name", None) is None:
        return RedisSettings(connection_class, kept)
    return _of_sentinel(pool, connection_class, kept)


def _of_sentinel(
    pool: Any, connection_class: type[Any], options: Mapping[str, Any]
) -> RedisSettings:
    if not pool.is_master:
        raise InvalidOptions(
            f"the client of sentinel service {pool.service_name!r} talks to replicas, which take "
            "no writes; pass one made with master_for"
        )
    manager = pool.sentinel_manager
    forced_host = private(manager, "_force_master_ip")
    return RedisSettings(
        connection_class,
        options,
        service_name=pool.service_name,
        sentinels=[_of_pool(sentinel.connection_pool) for sentinel in manager.sentinels],
        min_other_sentinels=manager.min_other_sentinels,
        address_remap=None if forced_host is None else lambda node: (forced_host, node[1]),
    )


def _of_cluster(client: Any) -> RedisSettings:
    manager = client.nodes_manager
    options = dict(manager.connection_kwargs)
    if isinstance(client, redis.RedisCluster):
        _refuse_connect_func(getattr(client, "user_on_connect_func", None), type(client))
    # What is left is redis-py's own, for reading from replicas; a queue talks to primaries.
    options.pop("redis_connect_func", None)
    is_tls = options.pop("ssl", False)
    default_class = _SSLConnection if is_tls else _Connection
    connection_class = _async_class(options.get("connection_class", default_class))
    options.pop("host", None)
    options.pop("port", None)
    return RedisSettings(
        connection_class,
        _kept(options, connection_class),
        startup_nodes=[(node.host, int(node.port)) for node in manager.startup_nodes.values()],
        address_remap=manager.address_remap,
    )


def _async_class(connection_class: type[Any]) -> type[Any]:
    if connection_class in _ASYNC_CLASSES:
        return _ASYNC_CLASSES[connection_class]
    if issubclass(connection_class, redis.asyncio.connection.AbstractConnection):
        return connection_class
    raise InvalidOptions(
        f"the client uses connections of the class {connection_class.__name__}, which is not "
        "asyncio; pass a redis.asyncio.Redis"
    )


def _refuse_connect_func(function: object, owner: type[Any]) -> None:
    if function is not None:
        raise InvalidOptions(
            f"the client's redis_connect_func {function!r} takes a blocking connection (of "
            f"{owner.__name__}); pass a redis.asyncio client with an async one"
        )


def _kept(options: Mapping[str, Any], connection_class: type[Any]) -> dict[str, Any]:
    """Where and who of `options`. Other settings are left out, known or not.

    Raises:
        InvalidOptions: `connection_class` cannot honour one that says where or who.
    """
    accepted = _parameters(connection_class.__mro__)
    of_redis_py = _parameters(filter(_is_of_redis_py, connection_class.__mro__))
    kept = {}
    for name, value in options.items():
        if name in _WHERE_AND_WHO or name.startswith(_TLS):
            if name in accepted:
                kept[name] = value
            elif value is not None and value is not False:
                raise InvalidOptions(
                    f"the client's setting {name} is not supported by redis-py's asyncio "
                    f"{connection_class.__name__}; pass a client without it"
                )
        elif name not in of_redis_py and not _is_of_redis_py(connection_class):
            kept[name] = value  # a setting of the user's own class
    if kept.get("credential_provider") is not None:
        kept["credential_provider"] = _awaitable(kept["credential_provider"])
    return kept


def _is_of_redis_py(connection_class: type[Any]) -> bool:
    return connection_class.__module__.partition(".")[0] == redis.__name__


def _parameters(classes: Iterable[type[Any]]) -> set[str]:
    """The names that the constructors of `classes` take."""
    return {
        name
        for each in classes
        for name in inspect.signature(vars(each).get("__init__", object)).parameters
    }


def _awaitable(provider: Any) -> Any:
    inherited = CredentialProvider.get_credentials_async
    if getattr(type(provider), "get_credentials_async", inherited) is not inherited:
        return provider
    return _CredentialsFromThread(provider)


class _CredentialsFromThread(CredentialProvider):
    """Credentials of a provider that blocks, fetched without blocking the loop."""

    def __init__(self, provider: Any) -> None:
        self.blocking = provider

    def get_credentials(self) -> Any:
        return self.blocking.get_credentials()

    async def get_credentials_async(self) -> Any:
        return await asyncio.to_thread(self.blocking.get_credentials)
