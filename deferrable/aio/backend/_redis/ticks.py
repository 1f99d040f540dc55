"""Arguments and answers of the scripts of schedules.

Owns the key of a queue's schedules, and how a proposal is written and an answer read.
"""

from collections.abc import Sequence
from typing import cast

from deferrable._ticks import Proposal, Verdict
from deferrable.aio.backend._redis.link import script
from deferrable.aio.backend._redis.windows import now_text
from deferrable.aio.clock import Clock
from deferrable.aio.schedules import Admission

__all__ = ["ADMIT", "admit_args", "read_admission", "schedules_key"]

ADMIT = script("schedules", "schedules_admit")


def schedules_key(name: str) -> str:
    """The hash of the schedules of the queue `name`."""
    return f"queue.{name}.schedules"


def admit_args(clock: Clock | None, proposal: Proposal, token: str) -> tuple[str, ...]:
    """The first arguments of the script that admits a tick."""
    return (
        now_text(clock),
        proposal.name,
        proposal.version,
        repr(proposal.last_time),
        repr(proposal.tick_time),
        repr(proposal.due_time),
        token,
    )


def read_admission(answer: Sequence[bytes]) -> Admission:
    """The answer of that script."""
    verdict, last_time, now = answer
    return Admission(cast(Verdict, verdict.decode()), float(last_time), float(now))
