"""What a load costs in SQS, by the rules that the adapter follows.

Owns the arithmetic: how many requests of each kind are sent in a month, and how many are billed. It
does no I/O. The rule: sizes of batches, waits and delays are those of the adapter, by import, so
that a change there changes the estimate.

Prices, without taxes and the free million of each month. Source: the page "Amazon SQS pricing" of
AWS, region US East (Ohio), as of 2025: $0.40 for a million requests on a standard queue, $0.50 on a
FIFO queue, and less beyond 100 billion; each 64 KB of a payload is billed as one request. Limits of
messages, delays and waits: SQS developer guide, "Amazon SQS message quotas".
"""

import math
from dataclasses import dataclass, field, replace

from deferrable._durations import seconds_of
from deferrable.aio._contract.entries import TOUCHES_PER_LEASE
from deferrable.aio.backend.sqs._batches import MAX_BATCH_BYTES, MAX_BATCH_SIZE
from deferrable.aio.backend.sqs._queue import SQSFifoQueue, SQSQueue
from deferrable.aio.backend.sqs._receiving import MAX_WAIT_SECONDS
from deferrable.errors import InvalidOptions

__all__ = ["Bill", "Load", "bill", "naive_bill"]

MONTH_SECONDS = 30 * 86_400
BILLED_BYTES = 65_536
PRICES = {"standard": 0.40, "fifo": 0.50}
"""Dollars for a million requests."""
_NAIVE_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Load:
    """What happens in a month.

    Attributes:
        jobs: how many calls are deferred.
        burst: how many of them are deferred together: by one ``later_many``, or by calls of
            ``later_async`` at the same time.
        size_bytes: of one item, as JSON.
        workers: processes that poll all the time.
        concurrency: how many jobs each of them runs at once.
        job_seconds: how long one job runs.
        wait_seconds: the factory's `wait_time`.
        visibility_seconds: the factory's `visibility_timeout`.
        delay_seconds: by which each call is delayed.
        error_share: the part of the jobs that goes to the error queue, from 0 to 1.
        is_fifo: the queue is a FIFO queue.
        price: dollars for a million requests; None: that of `PRICES`.

    Raises:
        InvalidOptions: a value is out of range, or SQS cannot do it.
    """

    jobs: float
    burst: float = 1
    size_bytes: float = 2048
    workers: int = 1
    concurrency: int = 10
    job_seconds: float = 0.1
    wait_seconds: float = MAX_WAIT_SECONDS
    visibility_seconds: float = 30
    delay_seconds: float = 0
    error_share: float = 0
    is_fifo: bool = False
    price: float | None = None

    def __post_init__(self) -> None:
        for name in ("job_seconds", "wait_seconds", "delay_seconds"):
            seconds_of(name, getattr(self, name))
        seconds_of("visibility_seconds", self.visibility_seconds, is_over=True)
        for name, least in (("jobs", 0), ("burst", 1), ("size_bytes", 1), ("workers", 0)):
            value = getattr(self, name)
            if not least <= value < math.inf:
                raise InvalidOptions(f"{name} must be a number of at least {least}, got {value!r}")
        if self.concurrency < 1:
            raise InvalidOptions(f"concurrency must be at least 1, got {self.concurrency!r}")
        if not 0 <= self.error_share <= 1:
            raise InvalidOptions(f"error_share is from 0 to 1, got {self.error_share!r}")
        if self.wait_seconds > MAX_WAIT_SECONDS:
            raise InvalidOptions(
                f"SQS waits for at most {MAX_WAIT_SECONDS} s, got {self.wait_seconds!r}"
            )
        if self.size_bytes > MAX_BATCH_BYTES:
            raise InvalidOptions(
                f"SQS takes {MAX_BATCH_BYTES:,} bytes at most, got {self.size_bytes:,.0f}; larger "
                "items need large_items=S3Store(...), whose price this does not know"
            )
        if self.is_fifo and self.delay_seconds:
            raise InvalidOptions("a FIFO queue cannot delay single items; leave out the delay")

    @property
    def price_of_million(self) -> float:
        """Dollars for a million requests."""
        return PRICES["fifo" if self.is_fifo else "standard"] if self.price is None else self.price


@dataclass(frozen=True)
class Bill:
    """The billed requests of a month, by what they are for.

    Attributes:
        requests: each kind and its number; a request counts once for each started 64 KiB.
        jobs: of the load.
        price: dollars for a million requests.
    """

    requests: dict[str, float] = field(default_factory=dict)
    jobs: float = 0
    price: float = 0.0

    @property
    def total(self) -> float:
        """All requests."""
        return sum(self.requests.values())

    @property
    def requests_per_job(self) -> float | None:
        """None: there are no jobs."""
        return self.total / self.jobs if self.jobs else None

    @property
    def dollars(self) -> float:
        """What they cost."""
        return self.total * self.price / 1e6


def bill(load: Load) -> Bill:
    """What the adapter sends for `load`, with workers (not ``run_once``)."""
    queue = SQSFifoQueue if load.is_fifo else SQSQueue
    rate = load.jobs / MONTH_SECONDS / max(load.workers, 1)
    # Deletes are gathered for a moment, so jobs of several bursts may share one.
    together = max(load.burst, rate * queue.COMPLETE_GATHER_SECONDS)
    bodies = _batches(load.jobs, load.burst, load.size_bytes)
    deletes = _batches(load.jobs, together, 0)
    hops = load.jobs * _hops(load.delay_seconds, queue.MAX_DELAY_SECONDS)
    failed = load.jobs * load.error_share
    requests = {
        "send": bodies,
        "receive": bodies,
        "receive, empty": _empty_receives(load),
        "delete": deletes,
        "heartbeat": _heartbeats(load, rate),
        "hop": 2 * _batches(hops, load.burst, load.size_bytes) + _batches(hops, together, 0),
        "error": _batches(failed, together * load.error_share, load.size_bytes),
    }
    return Bill(requests, load.jobs, load.price_of_million)


def naive_bill(load: Load) -> Bill:
    """What one request for each send, receive and delete costs, with a short poll each second.

    Heartbeats are single requests, too; hops and error items are those of the same design.
    """
    chunks = _chunks(load.size_bytes)
    hops = load.jobs * _hops(load.delay_seconds, SQSQueue.MAX_DELAY_SECONDS)
    requests = {
        "send": load.jobs * chunks,
        "receive": load.jobs * chunks,
        "receive, empty": _empty_receives(replace(load, wait_seconds=_NAIVE_POLL_SECONDS)),
        "delete": load.jobs,
        "heartbeat": load.jobs * _touches(load),
        "hop": hops * (2 * chunks + 1),
        "error": load.jobs * load.error_share * chunks,
    }
    return Bill(requests, load.jobs, load.price_of_million)


def _chunks(size_bytes: float) -> int:
    """For how many requests one request with such a payload is billed."""
    return max(1, math.ceil(size_bytes / BILLED_BYTES))


def _batches(count: float, together: float, size_bytes: float) -> float:
    """How many requests are billed for `count` entries, of which so many are there at a time."""
    together = max(1.0, together)
    fitting = MAX_BATCH_SIZE
    if size_bytes:
        fitting = max(1, min(fitting, int(MAX_BATCH_BYTES // size_bytes)))
    full, rest = divmod(together, fitting)
    billed = full * _chunks(fitting * size_bytes)
    if rest:
        billed += _chunks(rest * size_bytes)
    return count / together * billed


def _empty_receives(load: Load) -> float:
    """Long polls that end without a message: bursts come at random to workers that all poll."""
    if not load.workers:
        return 0.0
    # With a wait of 0 a worker asks again at once; a round trip is about this long.
    wait = max(load.wait_seconds, 0.02)
    bursts = load.jobs / load.burst / load.workers
    expected = bursts / MONTH_SECONDS * wait
    if not expected:
        return load.workers * MONTH_SECONDS / wait
    return load.workers * bursts / math.expm1(expected) if expected < 700 else 0.0


def _touches(load: Load) -> int:
    return int(load.job_seconds // (load.visibility_seconds / TOUCHES_PER_LEASE))


def _heartbeats(load: Load, rate: float) -> float:
    running = min(load.concurrency, max(1.0, rate * load.job_seconds, load.burst))
    return _batches(load.jobs * _touches(load), running, 0)


def _hops(delay_seconds: float, most_seconds: float) -> int:
    return max(0, math.ceil(delay_seconds / most_seconds) - 1)
