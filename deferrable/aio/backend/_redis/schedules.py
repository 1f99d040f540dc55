"""Schedules in Redis, shared by all workers that use it.

Owns what each verb of the contract does there, and the push to a queue in the same Redis in the
same step. The scripts decide by the server's clock. They repeat the logic of `deferrable._ticks`;
a property test compares the two.

The one rule: what is kept of a schedule is read, decided on and written in one script.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deferrable._ticks import Plan, Proposal
from deferrable.aio.backend._redis.link import RedisLinks, script
from deferrable.aio.backend._redis.store import RedisStore
from deferrable.aio.backend._redis.ticks import ADMIT, admit_args, read_admission, schedules_key
from deferrable.aio.backend._redis.windows import now_text, run_repeatable
from deferrable.aio.backend.dockets import _schedules as _dockets_schedules
from deferrable.aio.clock import Clock
from deferrable.aio.queue import Queue
from deferrable.aio.schedules import Admission, JoinedTick, ScheduleStore, Standing

if TYPE_CHECKING:
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster

__all__ = ["RedisScheduleStore"]

_RENEW = script("schedules", "schedules_renew")
_CONFIRM = script("schedules", "schedules_confirm")


class RedisScheduleStore(RedisStore, ScheduleStore):
    """Schedules in Redis: those of one queue are the hash ``queue.NAME.schedules``.

    The hash expires when no worker has had any of them for two weeks.

    Any event loop may use it. A command whose answer was lost is sent again, and may then be
    refused because it was admitted the first time.

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

    async def renew(self, name: str, plans: Sequence[Plan], *, is_start: bool) -> list[Standing]:
        versions = [value for plan in plans for value in (plan.name, plan.version)]
        args = (now_text(self._clock), "1" if is_start else "", *versions)
        now, *rest = await run_repeatable(self._links.here(), _RENEW, (schedules_key(name),), args)
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return [Standing(float(last), bool(gone), float(now)) for last, gone in pairs]

    async def reserve(self, name: str, proposal: Proposal, token: str) -> Admission:
        args = admit_args(self._clock, proposal, token)
        link = self._links.here()
        return read_admission(await run_repeatable(link, ADMIT, (schedules_key(name),), args))

    async def confirm(self, name: str, proposal: Proposal, token: str) -> None:
        args = (proposal.name, repr(proposal.tick_time), token)
        await run_repeatable(self._links.here(), _CONFIRM, (schedules_key(name),), args)

    def joined_with(self, queue: Queue) -> JoinedTick | None:
        return _dockets_schedules.join(self.settings, self._clock, queue)
