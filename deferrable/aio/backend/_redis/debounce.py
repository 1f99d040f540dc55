"""Debounce windows in Redis, shared by all producers that use it.

Owns what each verb of the contract does there, and the push to a queue in the same Redis in the
same step. The scripts decide by the server's clock, so that a producer with a wrong clock decides
like every other. They repeat the logic of `deferrable.debounce`; a property test compares the two.

The one rule: a window is read, decided on and written in one script.
"""

from typing import TYPE_CHECKING

from deferrable.aio.backend._redis.link import RedisLinks, Script, script
from deferrable.aio.backend._redis.store import RedisStore
from deferrable.aio.backend._redis.windows import (
    CLASSIC_LIFE_IN_WINDOWS,
    DebouncedCall,
    now_text,
    read_reservation,
    run_repeatable,
    window_keys,
)
from deferrable.aio.backend.dockets import _debounce as _dockets_debounce
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import DebounceKey, DebounceStore, JoinedPush, Reservation
from deferrable.aio.queue import Queue

if TYPE_CHECKING:
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster

__all__ = ["RedisDebounceStore"]


class _Scripts:
    """The scripts of one kind of window."""

    def __init__(self, kind: str) -> None:
        window = ("debounce_decide", f"debounce_{kind}window")
        self.reserve: Script = script(*window, f"debounce_{kind}reserve")
        self.confirm: Script = script(*window, f"debounce_{kind}confirm")
        self.restore: Script = script(*window, f"debounce_{kind}restore")
        self.withdraw: Script = script(*window, f"debounce_{kind}withdraw")


_OURS, _CLASSIC = _Scripts(""), _Scripts("classic_")


class RedisDebounceStore(RedisStore, DebounceStore):
    """Windows in Redis; every script touches one window, so a Redis Cluster works.

    A window is the hash ``deferrable.debounce.IDENTITY``, which expires when it cannot matter any
    more. Items of the classic serializer have the old library's keys instead, with its values, so
    that both generations share windows; the token of a reservation is in a third key, for as long
    as the reservation lasts. (On a cluster, where the old library never worked, only this library
    uses those windows.)

    Any event loop may use it. A command whose answer was lost is sent again; the token makes it the
    same reservation.

    Args:
        redis_client: a ``redis.asyncio.Redis``, a ``redis.Redis``, one of their cluster clients, or
            a URL. Only its settings are used: there is no I/O on it, and it is never closed. A
            backend's own store gets the links of its queues.
        clock: the source of time; None: the server.

    Raises:
        InvalidOptions: the client has a setting that is not supported.
    """

    def __init__(
        self,
        redis_client: "AsyncRedis | Redis | AsyncRedisCluster | RedisCluster | str | RedisLinks",
        *,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(redis_client)
        self._clock = clock

    async def reserve(
        self, key: DebounceKey, window_seconds: float, always_delay: bool, token: str
    ) -> Reservation:
        is_classic = self._is_classic(key)
        call = DebouncedCall(token, window_seconds, always_delay, is_classic, self._clock)
        keys, scripts = window_keys(key, is_classic=is_classic), self._scripts(key)
        answer = await run_repeatable(self._links.here(), scripts.reserve, keys, call.args())
        return read_reservation(answer)

    async def confirm(self, key: DebounceKey, token: str) -> None:
        await self._end(self._scripts(key).confirm, key, token)

    async def restore(self, key: DebounceKey, token: str) -> None:
        await self._end(self._scripts(key).restore, key, token)

    async def withdraw(self, key: DebounceKey, item_id: str, available_time: float | None) -> None:
        due_text = "" if available_time is None else repr(available_time)
        await self._end(self._scripts(key).withdraw, key, item_id, due_text)

    async def _end(self, script: Script, key: DebounceKey, token: str, *more: str) -> None:
        keys = window_keys(key, is_classic=self._is_classic(key))
        args = (token, now_text(self._clock), repr(CLASSIC_LIFE_IN_WINDOWS), *more)
        await run_repeatable(self._links.here(), script, keys, args)

    def joined_with(self, queue: Queue) -> JoinedPush | None:
        return _dockets_debounce.join(self.settings, self._clock, queue)

    def _is_classic(self, key: DebounceKey) -> bool:
        return key.classic is not None and not self.settings.is_cluster

    def _scripts(self, key: DebounceKey) -> _Scripts:
        return _CLASSIC if self._is_classic(key) else _OURS
