"""What callers get back: a receipt for a deferred call, an outcome for a run."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from deferrable.handles import CallSource, HandleVerbs
from deferrable.item import Item, id_text

__all__ = ["Outcome", "OutcomeStatus", "Receipt", "ReceiptStatus", "WorkSummary"]

ReceiptStatus: TypeAlias = Literal["pushed", "delayed", "skipped", "duplicate"]
OutcomeStatus: TypeAlias = Literal[
    "completed", "retried", "errored", "expired", "released", "lost", "hopped", "cancelled"
]


@dataclass(frozen=True, slots=True, init=False)
class Receipt(HandleVerbs):
    """The result of a call to ``later``, and a handle on the call.

    It is a small value: its verbs ask the broker only when they are called.

    Attributes:
        id: the item's id; None when nothing was pushed because an equal call is pending.
        status: ``pushed`` (it may run now), ``delayed`` (it may run later), ``skipped``
            (debounced: a pending call runs instead), ``duplicate`` (unique: a pending call holds
            the key).
        available_time: when it, or the call that runs instead, may run, in epoch seconds. Of a
            duplicate: the moment of the call.
        serves_id: of a skipped call or a duplicate, the id of the pending call, which its verbs are
            about; None: it was pushed, or the store of its window does not know the id.
    """

    id: str | None
    status: ReceiptStatus
    available_time: float
    serves_id: str | None = None

    def __init__(
        self,
        id: str | None,  # noqa: A002  # as the field is called
        status: ReceiptStatus,
        available_time: float,
        serves_id: str | None = None,
        *,
        source: CallSource | None = None,
    ) -> None:
        # As the one that is left out, at half of its cost: each call to ``later`` makes one.
        _set_id(self, id)
        _set_status(self, status)
        _set_available_time(self, available_time)
        _set_serves_id(self, serves_id)
        if source is not None:
            _set_source(self, source)

    def _call_id(self) -> str | None:
        return self.serves_id if self.id is None else self.id


_set_id = vars(Receipt)["id"].__set__
_set_status = vars(Receipt)["status"].__set__
_set_available_time = vars(Receipt)["available_time"].__set__
_set_serves_id = vars(Receipt)["serves_id"].__set__
_set_source = vars(HandleVerbs)["_source"].__set__


class Outcome(Struct, frozen=True):  # which is made in a fifth of a frozen dataclass's time
    """The result of one attempt.

    Attributes:
        item: the item as it was popped.
        status: ``completed``, ``retried`` (a copy waits for the next attempt), ``errored`` (it is
            in the error queue), ``expired`` (its ttl had passed; it was not run), ``released`` (it
            was given back), ``lost`` (the lease ended meanwhile; nothing was settled), ``hopped``
            (it was not due yet and was pushed again), ``cancelled`` (somebody cancelled the call
            and asked its job to stop).
        error: what the job raised, if it did.
        result: what the job returned, if it did.
        duration_seconds: from the pop's end to the settlement.
    """

    item: Item
    status: OutcomeStatus
    error: BaseException | None = None
    result: Any = None
    duration_seconds: float = 0.0

    def __repr__(self) -> str:
        # Without item and result: outcomes are logged, and arguments have no place in logs.
        failed = "" if self.error is None else f" with {type(self.error).__name__}"
        return f"<Outcome {self.status}{failed} of item {id_text(self.item)}>"


class WorkSummary(Struct, frozen=True):
    """What a worker did, from `Worker.run`.

    Attributes:
        counts: how many attempts ended with each status.
        delayed: how many items were still delayed when the queues were empty; None: the worker was
            stopped before, or was not to end then.
    """

    counts: dict[OutcomeStatus, int]
    delayed: int | None = None
