"""Errors of Redis, translated into the errors of this library.

Owns the translation of broken connections and of Redis's error replies into `BackendError` and its
subclasses. Errors of redis-py leave this module only as ``__cause__``. Messages name the address,
never a password.

Source: the error codes are those of redis.io's documents on ACL, Cluster, Sentinel, replication
and persistence; a code is the first word of an error reply. What scripts make of it was measured
on Redis 6.2.14, 7.0.15 and 8.2.3 and on Valkey 9.1.2.
"""

import re
from dataclasses import dataclass

from deferrable.aio.backend._redis.extra import redis
from deferrable.errors import BackendError, BackendUnavailable, ItemTooLarge

__all__ = [
    "OutOfMemory",
    "Redirection",
    "ReplyError",
    "ScriptUnknown",
    "Unread",
    "advice_to_connect",
    "code_of",
    "ends_connection",
    "refused",
    "unavailable",
    "without_arguments",
]

_WORTH_TRYING_AGAIN = {
    "BUSY": "a script is running there for too long",
    "CLUSTERDOWN": "the cluster is down, or does not serve every slot",
    "FAILOVER": "a failover is under way",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "it is a replica that lost its primary",
    "NOREPLICAS": "it has fewer good replicas than it requires for a write",
    "READONLY": "it is a replica; the primary is elsewhere",
    "TRYAGAIN": "the keys are just moving to another node",
    "UNBLOCKED": "the primary became a replica, or the keys moved, during the wait",
}

_IS_CLUSTER = (
    "this is a node of a Redis Cluster; pass a redis.asyncio.RedisCluster or a redis.RedisCluster "
    "in place of a URL or another client"
)

_ADVICE = {
    "ASK": _IS_CLUSTER,
    "CROSSSLOT": "on a Redis Cluster all keys of one queue must share a hash slot; put a {tag} "
    "into the group's name, as in group='{mail}', and pass a RedisCluster client",
    "MOVED": _IS_CLUSTER,
    "MISCONF": "it cannot write its snapshots and refuses writes; see the log of the server",
    "NOAUTH": "give the client a password, or a username and a password",
    "NOPERM": "allow this user the command and the keys that the message names (ACL SETUSER)",
    "OOM": "it has reached its maxmemory and accepts no new items, but consumers go on and make "
    "room; push again later, raise maxmemory, or check what else fills it",
    "WRONGPASS": "check the username and the password",
    "WRONGTYPE": "another program keeps something else under this queue's keys",
}


_KNOWN = frozenset({*_WORTH_TRYING_AGAIN, *_ADVICE, "NOSCRIPT"})

_PROTOCOL_ERROR = "ERR Protocol error"
"""Source: ``setProtocolError`` of Redis; the client is closed once it has this reply."""

_TOO_LARGE = f"{_PROTOCOL_ERROR}: invalid bulk length"
"""A value is over ``proto-max-bulk-len``, and the server did not read it."""

_OF_A_SCRIPT = re.compile(r"ERR Error running script \(call to \w+\): (?:@\w+: ?\d+: )*-?")
"""The text that Redis 6.2 puts before the error of a command in a script; later versions do not."""

_DENIED_IN_A_SCRIPT = re.compile(
    r"(?:ERR )?(?:ACL failure in script|The user executing the script)"
)
"""How a refusal by the ACL begins in a script. Redis gives it no error code there."""


class ReplyError(Exception):
    """An error reply, unchanged."""


class Unread(BackendUnavailable):
    """The server closed the connection before it read these commands, so they had no effect."""


class OutOfMemory(BackendError):
    """Redis has reached its maxmemory and may evict nothing, so it refuses what takes memory."""


class ScriptUnknown(BackendError):
    """The server does not know a script by its SHA1; nothing ran. Never leaves the link."""


@dataclass(frozen=True, slots=True)
class Redirection:
    """An answer of a cluster that names another node; the command had no effect.

    Attributes:
        is_for_good: the slot has moved (MOVED), or only this command should go there (ASK).
    """

    is_for_good: bool
    host: str
    port: int

    @classmethod
    def of(cls, reply: object) -> "Redirection | None":
        """The redirection in `reply`, if any: ``MOVED SLOT HOST:PORT``, or ``ASK ...``."""
        if not isinstance(reply, ReplyError):
            return None
        code, *words = str(reply).split()
        if code not in ("MOVED", "ASK") or len(words) < 2:
            return None
        host, _, port = words[1].rpartition(":")
        return cls(code == "MOVED", host, int(port))

    def node(self, asked: tuple[str, int] | None) -> tuple[str, int]:
        """Where to go. A node that does not know its own name has the address that was asked."""
        host = self.host or (asked[0] if asked else "localhost")
        return host, self.port


def code_of(text: str) -> str:
    """The error code of an error reply, also of one from a script or a proxy."""
    text = _OF_A_SCRIPT.sub("", text, count=1)
    if _DENIED_IN_A_SCRIPT.match(text):
        return "NOPERM"
    code, *others = text.split(" ", 2)
    # Proxies of managed servers put ERR before the code of the server behind them.
    is_wrapped = code == "ERR" and others[:1] and others[0].removeprefix("-") in _KNOWN
    return others[0].removeprefix("-") if is_wrapped else code


def ends_connection(reply: object) -> bool:
    """Whether the server closes the connection after this reply, and reads nothing more of it."""
    return reply.__class__ is ReplyError and str(reply).startswith(_PROTOCOL_ERROR)


def without_arguments(text: str) -> str:
    """An error reply without the arguments that it repeats, which may be an item, or a password.

    Source: Redis's ``rejectCommandFormat`` for a command that it does not know.
    """
    return text.partition(", with args beginning with")[0]


def refused(where: str, text: str) -> BackendError:
    """The error for an error reply."""
    text = without_arguments(text)
    code = code_of(text)
    if text.startswith(_TOO_LARGE):
        error: BackendError = ItemTooLarge(
            f"Redis at {where} does not accept a value this large: {text}; pass a reference to "
            "the data instead of the data, or raise its proto-max-bulk-len"
        )
        error.__cause__ = redis.ResponseError(text)
        return error
    if code == "NOSCRIPT":
        return ScriptUnknown(f"Redis at {where} does not know the script: {text}")
    if code in _WORTH_TRYING_AGAIN:
        error = BackendUnavailable(
            f"Redis at {where} cannot serve this now, {_WORTH_TRYING_AGAIN[code]}: {text}; "
            "try again"
        )
    else:
        advice = _ADVICE.get(code)
        kind = OutOfMemory if code == "OOM" else BackendError
        error = kind(f"Redis at {where} refused: {text}" + (f"; {advice}" if advice else ""))
    error.__cause__ = redis.ResponseError(text)
    return error


def advice_to_connect(text: str) -> str:
    """What to do about an error reply to the commands that open a connection."""
    return _IS_CLUSTER if "cluster mode" in text else "check the settings"


def unavailable(
    where: str, what: str, cause: BaseException | None = None, *, advice: str = ""
) -> BackendUnavailable:
    """The error of a connection that could not be made, broke, or stayed silent."""
    reason = "" if cause is None else f": {cause}"
    error = BackendUnavailable(f"Redis at {where} {what}{reason}" + (advice and f"; {advice}"))
    error.__cause__ = cause
    return error
