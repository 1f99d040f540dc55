"""The settings that all queues of one factory share.

Owns the options of the factory that say how its queues work: their ranges and their defaults. It
does no I/O.

The one rule: only `queue_settings` makes them from what a user gave, so that no room behind it
checks them once more.
"""

import math
from dataclasses import dataclass, replace

from deferrable._durations import Duration, check_number, seconds_of
from deferrable.aio.backend.sqs._foreign import ForeignReader, OnForeign
from deferrable.aio.backend.sqs._held import MAX_LEASE_SECONDS
from deferrable.aio.backend.sqs._receiving import MAX_WAIT_SECONDS
from deferrable.aio.backend.sqs._retries import RetryWay, check_retry, most_receives
from deferrable.aio.backend.sqs._s3_store import S3Store
from deferrable.aio.clock import Clock
from deferrable.errors import InvalidOptions

__all__ = ["QueueSettings", "queue_settings"]

_MOST_RECEIVES = 1000
"""Source: SQS API reference, SetQueueAttributes, RedrivePolicy, maxReceiveCount."""
_ERROR_WAIT_SECONDS = 1
"""Readers of an error queue do not want to wait at its end; with 0, SQS would not ask all of its
servers.
"""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """See the options of `SQSBackendFactory`; times are in seconds, and no limit is infinite."""

    retry: RetryWay
    visibility_timeout: float
    wait_seconds: int
    max_receive_count: int
    max_lease_seconds: float
    compress_over_bytes: float
    offload_over_bytes: float
    large_items: S3Store | None
    clock: Clock | None
    foreign: ForeignReader | None

    def of_error_queue(self) -> "QueueSettings":
        """The same for the error queue, whose items are never retried in place."""
        wait_seconds = min(self.wait_seconds, _ERROR_WAIT_SECONDS)
        return replace(self, retry="behind", wait_seconds=wait_seconds)


def queue_settings(
    *,
    retry: RetryWay,
    visibility_timeout: Duration,
    wait_time: Duration,
    max_receive_count: int | None,
    max_lease_seconds: Duration | None,
    compress_over_bytes: float | None,
    offload_over_bytes: float | None,
    large_items: S3Store | None,
    clock: Clock | None,
    foreign: OnForeign | None,
) -> QueueSettings:
    """The settings for these options.

    Raises:
        InvalidOptions: one is out of range, or needs another one.
    """
    lease = seconds_of("visibility_timeout", visibility_timeout, least=1, most=MAX_LEASE_SECONDS)
    wait = seconds_of("wait_time", wait_time, most=MAX_WAIT_SECONDS)
    given = MAX_LEASE_SECONDS if max_lease_seconds is None else max_lease_seconds
    maximum = seconds_of("max_lease_seconds", given, least=1, most=MAX_LEASE_SECONDS)
    check_retry(retry)
    if max_receive_count is None:
        max_receive_count = most_receives(retry)
    check_number("max_receive_count", max_receive_count, least=1, most=_MOST_RECEIVES)
    compress_over = math.inf if compress_over_bytes is None else compress_over_bytes
    check_number("compress_over_bytes", compress_over)
    offload_over = math.inf if offload_over_bytes is None else offload_over_bytes
    check_number("offload_over_bytes", offload_over)
    if offload_over_bytes is not None and large_items is None:
        raise InvalidOptions(
            f"offload_over_bytes={offload_over_bytes!r} needs a store for larger items; give "
            "large_items=S3Store(...), too"
        )
    return QueueSettings(
        retry=retry,
        visibility_timeout=lease,
        wait_seconds=math.ceil(wait),
        max_receive_count=int(max_receive_count),
        max_lease_seconds=maximum,
        compress_over_bytes=compress_over,
        offload_over_bytes=offload_over,
        large_items=large_items,
        clock=clock,
        foreign=None if foreign is None else ForeignReader(foreign),
    )
