"""Debounce windows in Redis, shared by all producers that use it.

Owns under which keys a window is kept, for how long, and by whose clock: the server's, so that a
producer whose own is wrong decides like every other. It may not know what is pushed, nor where to.
The scripts decide; they are the twin of `deferrable.debounce`, held to it by a property test.

The one rule: a window is read, decided on and written in one script.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from deferrable.aio.backend._redis import RedisLinks, RedisSettings, Script
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import (
    DebounceKey,
    DebounceStore,
    Decision,
    PushDelayed,
    PushNow,
    Reservation,
    Skip,
)
from deferrable.debounce import RESERVATION_SECONDS, life_seconds
from deferrable.errors import BackendUnavailable

if TYPE_CHECKING:
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster

__all__ = ["RedisDebounceStore"]

_PREFIX: Final = "deferrable.debounce."

_CLASSIC_LIFE_IN_WINDOWS: Final = 2
"""The old library keeps the time of the last push so long (its ``px=int(2*debounce_seconds*1000)``,
and the same in its script)."""

_LEAST_LIFE_SECONDS: Final = 3600.0
"""Keys expire by the server's clock, so a window decided on by a clock that a test moves, or lets
stand still, is kept for so long at least."""


def _script(*names: str) -> Script:
    folder = files("deferrable.aio.backend").joinpath("lua")
    return Script("\n".join(folder.joinpath(f"debounce_{name}.lua").read_text() for name in names))


_RESERVE = _script("decide", "window", "reserve")
_CONFIRM = _script("decide", "window", "confirm")
_RESTORE = _script("decide", "window", "restore")
_CLASSIC_RESERVE = _script("decide", "classic_window", "classic_reserve")
_CLASSIC_CONFIRM = _script("decide", "classic_window", "classic_confirm")
_CLASSIC_RESTORE = _script("decide", "classic_window", "classic_restore")


class RedisDebounceStore(DebounceStore):
    """Windows in Redis; every script touches one window, so a Redis Cluster works.

    A window is the hash ``deferrable.debounce.IDENTITY``, which expires when it cannot matter any
    more. Items of the classic serializer have the old library's keys instead, with its values, so
    that both generations share windows; the token of a reservation is in a third key, for as long
    as the reservation lasts. (On a cluster, where the old library never worked, those windows are
    ours alone.)

    It may be used from any event loop. A command whose answer was lost is sent once more; the
    token makes it the same reservation.

    Args:
        redis_client: a ``redis.asyncio.Redis``, a ``redis.Redis``, one of their cluster clients, or
            a URL. It lends its settings only: no I/O is done on it, and it is never closed.
        clock: what tells the time; None: the server.

    Raises:
        InvalidOptions: the client has a setting that cannot be honoured.
    """

    def __init__(
        self,
        redis_client: "AsyncRedis | Redis | AsyncRedisCluster | RedisCluster | str",
        *,
        clock: Clock | None = None,
    ) -> None:
        self.settings = RedisSettings.of(redis_client)
        self._clock = clock
        self._links = RedisLinks(self.settings)

    def __repr__(self) -> str:
        return f"<RedisDebounceStore {self.settings.where()}>"

    async def reserve(
        self, key: DebounceKey, window_seconds: float, always_delay: bool, token: str
    ) -> Reservation:
        keys = self._classic_keys(key)
        if keys is not None:
            life = _CLASSIC_LIFE_IN_WINDOWS * window_seconds
        elif self._clock is None:
            life = life_seconds(window_seconds)
        else:
            life = max(life_seconds(window_seconds), _LEAST_LIFE_SECONDS)
        decision, delay, available = await self._run(
            _RESERVE if keys is None else _CLASSIC_RESERVE,
            keys or _own_keys(key),
            token,
            repr(window_seconds),
            "1" if always_delay else "",
            repr(RESERVATION_SECONDS),
            repr(life),
            self._now(),
        )
        available_time = float(available)
        return Reservation(_decision(decision, float(delay), available_time), available_time)

    async def confirm(self, key: DebounceKey, token: str) -> None:
        keys = self._classic_keys(key)
        if keys is None:
            await self._run(_CONFIRM, _own_keys(key), token, self._now())
        else:
            life = _CLASSIC_LIFE_IN_WINDOWS
            await self._run(_CLASSIC_CONFIRM, keys, token, self._now(), repr(life))

    async def restore(self, key: DebounceKey, token: str) -> None:
        keys = self._classic_keys(key)
        if keys is None:
            await self._run(_RESTORE, _own_keys(key), token, self._now())
        else:
            await self._run(_CLASSIC_RESTORE, keys, token, self._now())

    async def close(self) -> None:
        await self._links.close()

    def _classic_keys(self, key: DebounceKey) -> Sequence[str] | None:
        if key.classic is None or self.settings.is_cluster:
            return None
        mark, last_push = key.classic
        # Without the group, as those two are: they are what is reserved.
        return mark, last_push, _PREFIX + last_push

    def _now(self) -> str:
        return "" if self._clock is None else repr(self._clock.time())

    async def _run(self, script: Script, keys: Sequence[str], *args: str) -> Any:
        link = self._links.here()
        try:
            return await link.run(script, keys, args)
        except BackendUnavailable:
            return await link.run(script, keys, args)


def _own_keys(key: DebounceKey) -> Sequence[str]:
    return (_PREFIX + key.text,)


def _decision(name: bytes, delay_seconds: float, available_time: float) -> Decision:
    match name:
        case b"skip":
            return Skip(available_time)
        case b"now":
            return PushNow()
        case _:
            return PushDelayed(delay_seconds)
