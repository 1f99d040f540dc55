"""The sentences of ``deferrable explain``.

Owns the facts that are known of a call, and their words. It asks nobody.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from deferrable._durations import is_number
from deferrable._foresight import Foresight
from deferrable.cli.error_views import date_text, moment_text
from deferrable.cli.printing import seconds_text
from deferrable.handles import CallState, CallStatus
from deferrable.item import Item
from deferrable.pause import Pause
from deferrable.worker_reports import WorkerReport

__all__ = ["Known", "Texts"]

_OVER: dict[CallStatus, str] = {
    "completed": "completed",
    "expired": "expired: its ttl ended before it could start",
    "cancelled": "cancelled",
}


@dataclass(slots=True)
class Known:
    """What is known of one call, at one moment.

    Attributes:
        requeue: the command that requeues it, if it has failed.
        show_error: the command that looks for it in the error queue.
        item: empty if only the end of the call is known.
        other_error: of a failed item with the same id, while this one has not ended; None: none.
        ending: how it ended; empty: it has not, or nothing was kept.
        foresight: None: nothing will happen by itself, or the item cannot be read.
        obstacle: why this checkout cannot run it; None: it can, or the item is not known.
        workers: None: the queue does not know its workers.
        can_find: whether the queue can look a call up.
        max_redeliveries: how many deliveries may end without settlement.
    """

    requeue: str
    show_error: str
    id: str
    state: CallState
    item: Item
    now: float
    call: str = ""
    job: str = ""
    other_error: object = None
    ending: Mapping[str, Any] = field(default_factory=dict)
    foresight: Foresight | None = None
    obstacle: str | None = None
    pause: Pause | None = None
    workers: list[WorkerReport] | None = None
    can_find: bool = True
    max_redeliveries: float = 0.0
    retried_errors: tuple[str, ...] = ()


class Texts:
    """What is known of a call, in sentences."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def lines(self) -> Iterator[tuple[str, str]]:
        """Each label and its sentence."""
        known = self._known
        yield "call", known.id
        if known.job:
            yield "job", f"{known.job}{known.call if known.item else ''}"
        yield "where", self._where()
        if known.other_error is not None:
            yield "also", f"another item of this id is {_failed(known.other_error)}"
        following = self._next()
        if following:
            yield "next", following
        if known.foresight is not None:
            yield "if it fails", self._failure()
        yield from self._limits()
        if known.item:
            obstacle = known.obstacle
            yield (
                "this checkout",
                "would run it" if obstacle is None else f"cannot run it: {obstacle}",
            )
        if known.state.status not in ("completed", "expired", "cancelled", "errored"):
            yield "listening", self._listening()

    def _where(self) -> str:
        known, state = self._known, self._known.state
        match state.status:
            case "queued":
                return "in the queue, and no worker holds it"
            case "delayed":
                return f"in the queue, delayed until {self._moment(state.available_time)}"
            case "retrying":
                until = state.available_time
                waits = "" if until is None else f", until {self._moment(until)}"
                return f"in the queue, between two attempts{waits}"
            case "running":
                return self._held()
            case "errored":
                return _failed(known.item.get("error"))
            case "unknown":
                return self._unknown()
        at = known.ending.get("time")
        when = f" at {moment_text(at)}" if is_number(at) else ""
        kept = "; its result is kept" if "value" in known.ending else ""
        end = ", and will not run" if state.status == "cancelled" else kept
        return f"{_OVER[state.status]}{when}{end}"

    def _held(self) -> str:
        known, state = self._known, self._known.state
        holder = state.worker or "a consumer"
        for report in known.workers or ():
            if state.worker is not None and report.holder == state.worker:
                holder = f"process {report.process_id} on {report.host}"
        since = "" if state.running_since is None else f" since {moment_text(state.running_since)}"
        until = (
            "" if state.lease_until is None else f"; its lease ends {self._in(state.lease_until)}"
        )
        return f"held by {holder}{since}{until}"

    def _unknown(self) -> str:
        if not self._known.can_find:
            return (
                "unknown: this broker cannot look a message up without taking it, and no result "
                "of the call is kept. It may wait, run, have ended, or have failed"
            )
        return (
            "unknown: no queue of this instance has it, and no result of it is kept. It has ended, "
            "or was never pushed here"
        )

    def _next(self) -> str:
        known = self._known
        status = known.state.status
        if status == "errored":
            return f"nothing, until somebody runs: {known.requeue}"
        if status == "unknown" and not known.can_find:
            return f"to look for it among failed messages: {known.show_error}"
        foresight = known.foresight
        if foresight is None:
            return ""
        if status == "running":
            return self._after_lease()
        attempt = f"attempt {foresight.attempt} of {foresight.max_attempts}"
        if foresight.expires:
            return f"it expires instead of {attempt}, because its ttl ends before it may start"
        if known.obstacle is not None:
            return f"a worker of this checkout buries it instead of {attempt}"
        when = "now" if foresight.start_time <= known.now else self._in(foresight.start_time)
        pause = known.pause
        if pause is not None:
            end = pause.until_time
            goes_on = "until it is resumed" if end is None else f"and goes on {self._in(end)}"
            return f"{attempt} may start {when}, but the queue is paused {goes_on}"
        return f"{attempt} may start {when}, as soon as a worker has a free slot for it"

    def _after_lease(self) -> str:
        known = self._known
        foresight, until = known.foresight, known.state.lease_until
        assert foresight is not None
        attempt = f"attempt {foresight.attempt} of {foresight.max_attempts}"
        if until is not None and until <= known.now:
            return f"its lease has ended: the next worker that polls gets it, for {attempt} again"
        most = known.max_redeliveries
        buried = f", {most:g} times at most" if isfinite(most) else ""
        return (
            f"{attempt} runs. Its worker renews the lease; if the worker dies, another one gets "
            f"the item when the lease ends{buried}"
        )

    def _failure(self) -> str:
        foresight = self._known.foresight
        assert foresight is not None
        if foresight.retry_seconds is None:
            return f"it goes to the error queue: {foresight.why_not_retried}"
        shortest, longest = foresight.retry_seconds
        wait = f"{shortest:g} s" if shortest == longest else f"{shortest:g} to {longest:g} s"
        names = ", ".join(self._known.retried_errors[:10])
        return (
            f"after {names}: the next attempt follows {wait} later; after other errors it goes to "
            "the error queue"
        )

    def _limits(self) -> Iterator[tuple[str, str]]:
        known, item = self._known, self._known.item
        foresight = known.foresight
        if foresight is None:
            return
        if foresight.expiry_time is not None:
            yield "ttl", f"it must start before {self._moment(foresight.expiry_time)}"
        if item.get("unique_key"):
            end = "it starts" if "unique_until" in item else "it has ended"
            yield "unique", f"equal calls are not pushed until {end}"
        if item.get("debounce_window") and known.state.status == "delayed":
            yield "debounce", "equal calls are skipped until then, because this one covers them"

    def _listening(self) -> str:
        workers = self._known.workers
        if workers is None:
            return "unknown: this broker does not know its workers"
        if not workers:
            return (
                "no worker has reported within the last 35 seconds. run_once and consumers of the "
                "Python 2 library report nothing"
            )
        slots, running = sum(e.slots for e in workers), sum(e.running for e in workers)
        count = "1 worker" if len(workers) == 1 else f"{len(workers):,} workers"
        stopping = sum(each.is_stopping for each in workers)
        rest = f", {stopping:,} of them stopping" if stopping else ""
        return f"{count} with {slots:,} slots{rest}; {running:,} jobs of this queue run"

    def _moment(self, moment: object) -> str:
        when = date_text(moment)
        return f"{when} ({self._in(moment)})" if is_number(moment) and when != "?" else when

    def _in(self, moment: float) -> str:
        seconds = moment - self._known.now
        text = seconds_text(abs(round(seconds)))
        return f"{text} ago" if seconds < 0 else f"in {text}"


def _failed(error: object) -> str:
    if not isinstance(error, dict):
        return "in the error queue"
    reason = f"; not retried: {error['reason']}" if error.get("reason") else ""
    kind, text = error.get("error_type"), str(error.get("error_text") or "")[:200]
    return f"in the error queue since {moment_text(error.get('ts'))}: {kind}: {text}{reason}"
