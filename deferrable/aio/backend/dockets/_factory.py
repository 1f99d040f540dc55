"""The factory of backends in a Redis.

Owns the options, their checks and their defaults.
"""

from deferrable._durations import Duration, check_number, optional_seconds_of, seconds_of
from deferrable._one_process import OneProcess
from deferrable.aio.backend._redis.debounce import RedisDebounceStore
from deferrable.aio.backend._redis.link import RedisLinks, RedisSettings, share_slot
from deferrable.aio.backend._redis.results import RedisResults
from deferrable.aio.backend._redis.schedules import RedisScheduleStore
from deferrable.aio.backend.base import Backend, BackendFactory
from deferrable.aio.backend.dockets._errors import DocketsErrorQueue
from deferrable.aio.backend.dockets._queue import DocketsQueue
from deferrable.aio.backend.dockets._wire import Keys
from deferrable.aio.clock import Clock
from deferrable.errors import InvalidOptions

__all__ = ["DocketsBackendFactory"]

_MOST_ITEM_BYTES = 536_870_912
"""Redis's ``proto-max-bulk-len``, unless it is configured otherwise."""


class DocketsBackendFactory(BackendFactory, OneProcess):
    """Creates backends in a Redis, in the layout of Dockets 0.4.2.

    There is no I/O before a queue is used. From the client only the settings are used: address,
    database, TLS, credentials, Sentinel, cluster; never its time-outs, retries, decoding or pool
    size. The client itself is neither used nor closed. On a Redis Cluster the group needs a
    ``{tag}``, so that all keys of a queue are on one node.

    Args:
        redis_client: a ``redis.asyncio.Redis``, a ``redis.Redis``, a ``RedisCluster`` of either
            kind, or a URL. Redis 6.2 or later, or Valkey.
        wait_time: how many seconds a pop waits for an item; 0: not at all.
        timeout: how many seconds a popped item stays hidden without a touch; a consumer that is
            silent for that long loses its items.
        max_redeliveries: an item goes to the error queue when more deliveries than that ended
            without settlement.
        max_lease_seconds: an item that was held for that long is taken back, even if it was
            touched; None: never.
        max_item_bytes: the most bytes of a new item's JSON, from 1 to 536,870,912, the default
            limit of Redis itself. `later` refuses a larger one.
        clock: the source of time; None: the machine's clock, and where consumers must agree, the
            server's.

    Raises:
        InvalidOptions: a number is out of range, or `redis_client` cannot be used.
    """

    def __init__(
        self,
        redis_client: object,
        wait_time: Duration = 3,
        timeout: Duration = 300,
        *,
        max_redeliveries: int = 10,
        max_lease_seconds: Duration | None = None,
        max_item_bytes: int = 100_000_000,
        clock: Clock | None = None,
    ) -> None:
        check_number(
            "max_item_bytes", max_item_bytes, least=1, most=_MOST_ITEM_BYTES, is_whole=True
        )
        check_number("max_redeliveries", max_redeliveries)
        self._links = RedisLinks(RedisSettings.of(redis_client))
        self._wait_time = seconds_of("wait_time", wait_time)
        self._timeout = seconds_of("timeout", timeout, is_over=True)
        self._max_redeliveries = max_redeliveries
        self._max_item_bytes = max_item_bytes
        self._max_lease_seconds = optional_seconds_of(
            "max_lease_seconds", max_lease_seconds, is_over=True
        )
        self._clock = clock

    def __repr__(self) -> str:
        return f"<DocketsBackendFactory {self._links.settings.where()}>"

    def _create_backend(self, group: str | None, name: str) -> Backend:
        keys = Keys(name)
        if self._links.settings.is_cluster and not share_slot(keys.queue, keys.delayed):
            raise InvalidOptions(
                f"the keys of group {group!r} lie in several hash slots of the Redis Cluster; put "
                f"a {{tag}} into the group's name, as in {'{' + (group or 'deferrable') + '}'!r}"
            )
        queue = DocketsQueue(
            name,
            self._links,
            self._wait_time,
            self._timeout,
            self._max_redeliveries,
            self._max_lease_seconds,
            self._max_item_bytes,
            self._clock,
        )
        error_queue = DocketsErrorQueue(
            name, self._links, self._timeout, self._max_lease_seconds, self._clock
        )
        store = RedisDebounceStore(self._links, clock=self._clock)
        results = RedisResults(self._links)
        schedules = RedisScheduleStore(self._links, clock=self._clock)
        return Backend(
            group,
            queue,
            error_queue,
            debounce_store=store,
            result_store=results,
            schedule_store=schedules,
        )
