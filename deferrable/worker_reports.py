"""What a worker reports about itself, for people who watch it.

Owns the value, its text, which a broker keeps, and for how long a report counts. No clock is read
here.

The rule: a report is only shown. Nothing decides by it, and a worker without one works as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deferrable._codec.json import dump, load_item
from deferrable._durations import is_number, is_whole_number
from deferrable.errors import SerializationError

__all__ = ["FORGOTTEN_SECONDS", "REPORT_SECONDS", "WorkerReport", "report_in", "text_of"]

REPORT_SECONDS = 10.0
"""How often a worker reports."""
FORGOTTEN_SECONDS = 35.0
"""A worker that was silent for so long is not shown any more."""
_MOST_JOBS = 10
_MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker of a queue, as it was at its last report.

    Attributes:
        id: of the worker; new at each start.
        host: the name of its machine.
        process_id: of its process there.
        slots: how many jobs it runs at once, of all its queues.
        running: how many jobs of this queue it was running.
        jobs: the names of these jobs, and how many of each; the ten most frequent ones.
        start_time: when it was started, in epoch seconds of its own machine.
        seen_time: when it reported, in epoch seconds.
        is_stopping: it takes no more items.
        holder: the name of its consumer in `Found.worker`; None: the broker has no such names.
    """

    id: str
    host: str
    process_id: int
    slots: int
    running: int
    jobs: Mapping[str, int] = field(default_factory=dict)
    start_time: float = 0.0
    seen_time: float = 0.0
    is_stopping: bool = False
    holder: str | None = None


def text_of(report: WorkerReport) -> str:
    """What a broker keeps of a report, beside its id and its moment."""
    most = sorted(report.jobs.items(), key=lambda each: (-each[1], each[0]))[:_MOST_JOBS]
    return dump(
        {
            "host": report.host[:_MOST_CHARACTERS],
            "process_id": report.process_id,
            "slots": report.slots,
            "running": report.running,
            "jobs": {name[:_MOST_CHARACTERS]: count for name, count in most},
            "start_time": report.start_time,
            "is_stopping": report.is_stopping,
            "holder": report.holder,
        }
    )


def report_in(worker_id: str, text: bytes | str, seen_time: float) -> WorkerReport | None:
    """The report that a broker keeps as `text`; None: it is none."""
    try:
        kept = load_item(text)
    except SerializationError:
        return None
    host, jobs, holder = kept.get("host"), kept.get("jobs"), kept.get("holder")
    return WorkerReport(
        worker_id,
        host if isinstance(host, str) else "",
        _whole(kept.get("process_id")),
        _whole(kept.get("slots")),
        _whole(kept.get("running")),
        {name: _whole(count) for name, count in jobs.items()} if isinstance(jobs, dict) else {},
        _moment(kept.get("start_time"), seen_time),
        seen_time,
        kept.get("is_stopping") is True,
        holder if isinstance(holder, str) else None,
    )


def _whole(value: object) -> int:
    return value if is_whole_number(value) else 0


def _moment(value: object, default: float) -> float:
    return float(value) if is_number(value) else default
