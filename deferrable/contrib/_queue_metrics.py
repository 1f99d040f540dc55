"""Gauges of queues for Prometheus, from readings.

Owns their names. One process has them, ``deferrable exporter``: every worker would count the same
items. A queue that could not be read has no numbers, only ``deferrable_queue_up`` 0.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import deferrable.contrib.prometheus  # noqa: F401  # its error names the extra
from deferrable.contrib._queues import QueueReading

from prometheus_client import CollectorRegistry  # isort: skip
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric  # isort: skip
from prometheus_client.registry import Collector  # isort: skip

__all__ = ["QueueCollector", "registry_of"]


class QueueCollector(Collector):
    """Shows the last readings.

    Args:
        read: returns them.
    """

    def __init__(self, read: Callable[[], Sequence[QueueReading]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return _families()

    def collect(self) -> Iterator[Metric]:
        families = up, paused, items, oldest, requests, used, most = _families()
        for reading in self._read():
            queue = [reading.name]
            up.add_metric(queue, reading.error is None)
            if reading.is_paused is not None:
                paused.add_metric(queue, reading.is_paused)
            for state, count in reading.items.items():
                items.add_metric([reading.name, state], count)
            if reading.oldest_age_seconds is not None:
                oldest.add_metric(queue, reading.oldest_age_seconds)
            if reading.requests is not None:
                requests.add_metric(queue, reading.requests)
            if "used_bytes" in reading.memory:
                used.add_metric(queue, reading.memory["used_bytes"])
            if "max_bytes" in reading.memory:
                most.add_metric(queue, reading.memory["max_bytes"])
        yield from families


def _families() -> tuple[
    GaugeMetricFamily,
    GaugeMetricFamily,
    GaugeMetricFamily,
    GaugeMetricFamily,
    CounterMetricFamily,
    GaugeMetricFamily,
    GaugeMetricFamily,
]:
    queue = ["queue"]
    return (
        GaugeMetricFamily(
            "deferrable_queue_up", "Whether the queue could be read; 0: no.", labels=queue
        ),
        GaugeMetricFamily(
            "deferrable_queue_paused",
            "Whether consumers take nothing, because somebody paused the queue; 1: yes.",
            labels=queue,
        ),
        GaugeMetricFamily(
            "deferrable_items",
            "Items by state: available, in_flight, delayed, and errors for the error queue.",
            labels=["queue", "state"],
        ),
        GaugeMetricFamily(
            "deferrable_oldest_age_seconds",
            "How long ago the item that is popped next was pushed; 0: nothing is available.",
            labels=queue,
        ),
        CounterMetricFamily(
            "deferrable_broker_requests",
            "Requests that this exporter has sent, to a broker that is paid by requests.",
            labels=queue,
        ),
        GaugeMetricFamily(
            "deferrable_redis_memory_used_bytes", "Memory that Redis uses.", labels=queue
        ),
        GaugeMetricFamily(
            "deferrable_redis_memory_max_bytes",
            "The memory limit of Redis; absent: there is none.",
            labels=queue,
        ),
    )


def registry_of(read: Callable[[], Sequence[QueueReading]]) -> CollectorRegistry:
    """A registry with these gauges and nothing else."""
    registry = CollectorRegistry()
    registry.register(QueueCollector(read))
    return registry
