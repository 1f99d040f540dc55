"""What workers report on their own ``/metrics``.

Owns the reading of such pages, and the sum over many workers. The rule: the number of ended calls
only grows, also if a worker is restarted and counts from 0 again.
"""

from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from deferrable.contrib._queues import WorkerCounts

__all__ = ["WorkerSum", "counts_in"]

_MOST_MISSED = 20
"""After so many readings without an answer, what answers at an address is another worker."""

_ENDS = frozenset({"completed", "errored", "expired", "cancelled"})


def counts_in(page: str) -> WorkerCounts:
    """The numbers of one worker.

    Raises:
        ValueError: it is no page of metrics.
    """
    ended = slots = running = 0.0
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "deferrable_attempts_total" and sample.labels.get("status") in _ENDS:
                ended += sample.value
            elif sample.name == "deferrable_slots":
                slots += sample.value
            elif sample.name == "deferrable_running":
                running += sample.value
    return WorkerCounts(ended, slots, running)


class WorkerSum:
    """The sum over workers that come and go."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}
        self._reading = 0
        self._ended = 0.0

    def add(self, by_address: Mapping[str, WorkerCounts]) -> WorkerCounts:
        """The sum, with the numbers of the workers that answered now."""
        self._reading += 1
        for address, counts in by_address.items():
            # A new worker has counted before we saw it; one that was restarted starts at 0.
            _, before = self._last.get(address, (0, counts.ended))
            self._ended += counts.ended - (before if before <= counts.ended else 0.0)
            self._last[address] = self._reading, counts.ended
        self._last = {
            address: known
            for address, known in self._last.items()
            if self._reading - known[0] <= _MOST_MISSED
        }
        values: Iterable[WorkerCounts] = by_address.values()
        return WorkerCounts(
            self._ended,
            sum(each.slots for each in values),
            sum(each.running for each in values),
        )
