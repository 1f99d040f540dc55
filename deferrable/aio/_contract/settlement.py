"""Whether an item may still be settled, and its state while it is.

Owns the `settlement` of an envelope: open, under way, done. Logs what could not be settled.

The one rule: an item that is settled, or whose lease has ended by this process's clock, is refused
before any I/O. A broker may accept a late settlement, and settle the item under its next holder.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, TypeVarTuple

from deferrable.aio._contract.batching import in_batches
from deferrable.aio._contract.hooks import QueueHooks
from deferrable.aio.envelope import Envelope
from deferrable.errors import LeaseLost

__all__ = ["LOST_ADVICE", "Settling", "logged"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_logger = logging.getLogger("deferrable")

LOST_ADVICE = (
    "use a longer visibility timeout if a process or its broker may be away for so long; code that "
    "pops items itself must touch them in time"
)
"""What to do about a lost lease. Workers and ``run_once`` renew leases themselves."""


class Settling(QueueHooks):
    """Settles the items of a queue, one or several."""

    def _check_held(self, verb: str, envelope: Envelope) -> None:
        if not isinstance(envelope, Envelope):
            raise TypeError(
                f"{verb} takes the envelope that pop returned, got {type(envelope).__name__}"
            )
        if envelope.settlement != "open" or self.clock.monotonic() > envelope.lease_end_time:
            raise self._refusal(verb, envelope)

    def _refusal(self, verb: str, envelope: Envelope) -> LeaseLost:
        if envelope.settlement != "open":
            return LeaseLost(f"cannot {verb} {envelope!r}: it is settled already, or being settled")
        return LeaseLost(f"cannot {verb} {envelope!r}: its lease ended; {LOST_ADVICE}")

    async def _settle_one(
        self,
        envelope: Envelope,
        verb: str,
        perform: Callable[[*Ts], Awaitable[None]],
        *args: *Ts,
    ) -> None:
        """Settle an envelope; refuse before any I/O if it is settled already.

        A settlement may be retried, unless it failed because of a lost lease.
        """
        self._check_held(verb, envelope)
        envelope.settlement = "under way"
        try:
            await perform(*args)
        except LeaseLost:
            envelope.settlement = "done"
            raise
        except BaseException:
            envelope.settlement = "open"
            raise
        envelope.settlement = "done"

    async def _settle_each(
        self,
        verb: str,
        envelopes: Sequence[Envelope],
        entries: Sequence[T],
        max_size: int,
        hook: Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]],
    ) -> list[Exception | None]:
        """Settle several envelopes in native batches: for each None, or why not."""
        sent: list[T | Exception] = []
        held: list[int] = []
        now = self.clock.monotonic()
        for index, (envelope, entry) in enumerate(zip(envelopes, entries, strict=True)):
            if envelope.settlement == "open" and now <= envelope.lease_end_time:
                envelope.settlement = "under way"
                held.append(index)
                sent.append(entry)
            else:
                sent.append(self._refusal(verb, envelope))
        try:
            outcomes = await in_batches(sent, max_size, self.BATCHES_AT_ONCE, hook)
        except BaseException:
            for index in held:
                envelopes[index].settlement = "open"
            raise
        for index in held:
            is_final = outcomes[index] is None or isinstance(outcomes[index], LeaseLost)
            envelopes[index].settlement = "done" if is_final else "open"
        return outcomes


def logged(
    verb: str, envelopes: Sequence[Envelope], outcomes: Sequence[Exception | None]
) -> list[tuple[Envelope, bool]]:
    """Whether each envelope was settled, once its failure is logged."""
    settled: list[tuple[Envelope, bool]] = []
    for envelope, outcome in zip(envelopes, outcomes, strict=True):
        if outcome is not None:
            _logger.error("cannot %s %r of a batch: %s", verb, envelope, outcome)
        settled.append((envelope, outcome is None))
    return settled
