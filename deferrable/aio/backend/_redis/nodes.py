"""The choice of the server to talk to.

Owns the way from settings to a server: the one that they name, the primary on which the sentinels
agree, or the node of a cluster that holds a slot. It keeps what it learned until a caller reports
that it is wrong.

Source: redis.io, "Guidelines for Redis clients with support for Redis Sentinel" and the cluster
specification (CLUSTER SLOTS, MOVED, ASK).
"""

from collections.abc import Sequence
from typing import Any

from deferrable.aio.backend._redis.connection import Command, RedisConnection, open_connection
from deferrable.aio.backend._redis.errors import ReplyError, refused, unavailable
from deferrable.aio.backend._redis.settings import Node, RedisSettings
from deferrable.errors import BackendError, BackendUnavailable

__all__ = ["ClusterNodes", "NamedNode", "SentinelNode", "nodes_of"]

_AGAIN = "try again when the cluster has settled"
_UNFIT = {b"s_down", b"o_down"}


class NamedNode:
    """The one server that the settings name."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    async def find(self, slot: int | None) -> Node | None:
        """The server for `slot`; None: the one that the settings name."""
        return None

    async def open(self, node: Node | None) -> RedisConnection:
        """A new connection to `node`."""
        settings = self._settings
        return await open_connection(lambda: settings.connection(node), settings.where(node))

    def forget(self, node: Node | None = None) -> None:
        """Forget what was learned, because it is wrong; `node`, if given, is right."""
        return


class SentinelNode(NamedNode):
    """The primary of a service, as its sentinels report it."""

    _node: Node | None = None

    async def find(self, slot: int | None) -> Node | None:
        if self._node is None:
            self._node = await self._ask_around()
        return self._node

    def forget(self, node: Node | None = None) -> None:
        self._node = None

    async def open(self, node: Node | None) -> RedisConnection:
        connection = await super().open(node)
        (role,) = await connection.exchange([("ROLE",)])
        if isinstance(role, ReplyError) or role[0] == b"master":
            return connection
        connection.abort()
        self.forget()
        raise unavailable(
            self._settings.where(node),
            "is a replica, although its sentinels say that it is the primary",
            advice="a failover is under way, try again",
        )

    async def _ask_around(self) -> Node:
        settings = self._settings
        answers = []
        for sentinel in settings.sentinels:
            try:
                reply = await _ask(sentinel, None, ("SENTINEL", "MASTER", settings.service_name))
            except BackendError as error:
                answers.append(str(error))
                continue
            facts = dict(zip(reply[::2], reply[1::2], strict=True))
            flags = set(facts[b"flags"].split(b","))
            others = int(facts.get(b"num-other-sentinels", 0))
            if flags & _UNFIT or others < settings.min_other_sentinels:
                answers.append(f"{sentinel.where()} sees it as {facts[b'flags'].decode()}")
                continue
            return _remapped(settings, (facts[b"ip"].decode(), int(facts[b"port"])))
        raise BackendUnavailable(
            f"no sentinel knows a primary of service {settings.service_name!r}: "
            + "; ".join(answers)
        )


class ClusterNodes(NamedNode):
    """The nodes of a cluster, by slot."""

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(settings)
        self._whom_to_ask = list(settings.startup_nodes)
        self._owners: list[tuple[int, int, Node]] = []

    async def find(self, slot: int | None) -> Node | None:
        if not self._owners:
            self._owners = await self._ask_around()
        for first, last, node in self._owners:
            if slot is None or first <= slot <= last:
                return node
        self._owners = []
        raise unavailable(self._settings.where(), f"has no node for slot {slot}", advice=_AGAIN)

    def forget(self, node: Node | None = None) -> None:
        known = [owner for _, _, owner in self._owners]
        given = [] if node is None else [node]
        self._whom_to_ask = list(dict.fromkeys([*given, *known, *self._settings.startup_nodes]))
        self._owners = []

    async def _ask_around(self) -> list[tuple[int, int, Node]]:
        failure: BackendError | None = None
        for node in self._whom_to_ask:
            try:
                reply = await _ask(self._settings, node, ("CLUSTER", "SLOTS"))
            except BackendError as error:
                failure = failure or error
                continue
            owners = [self._owner(node, *entry[:3]) for entry in reply]
            if owners:
                return owners
        raise failure or unavailable(self._settings.where(), "serves no slots", advice=_AGAIN)

    def _owner(
        self, asked: Node, first: int, last: int, primary: Sequence[Any]
    ) -> tuple[int, int, Node]:
        # A node that does not know its own name has the address that was asked.
        host = asked[0] if primary[0] in (None, b"", b"?") else primary[0].decode()
        return first, last, _remapped(self._settings, (host, int(primary[1])))


def nodes_of(settings: RedisSettings) -> NamedNode:
    """The object that finds the servers of `settings`."""
    if settings.is_cluster:
        return ClusterNodes(settings)
    if settings.service_name is not None:
        return SentinelNode(settings)
    return NamedNode(settings)


async def _ask(settings: RedisSettings, node: Node | None, command: Command) -> Any:
    """One question on a connection made for it."""
    where = settings.where(node)
    connection = await open_connection(lambda: settings.connection(node), where)
    try:
        (reply,) = await connection.exchange([command])
    finally:
        connection.abort()
    if isinstance(reply, ReplyError):
        raise refused(where, str(reply))
    return reply


def _remapped(settings: RedisSettings, node: Node) -> Node:
    return node if settings.address_remap is None else settings.address_remap(node)
