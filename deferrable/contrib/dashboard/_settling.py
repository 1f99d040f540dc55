"""Requeue or discard many errors, in the background.

Owns the work, its progress, and the line in the log for each. At most one chunk of errors is
leased at a time, and errors that somebody else holds are left alone.

The rule: only errors that were there when somebody was asked are meant.
"""

import asyncio
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deferrable import DeferrableError
from deferrable._codec.refusals import short_repr
from deferrable.aio import ErrorItem
from deferrable.contrib.dashboard._errors import ErrorFilter, chunks
from deferrable.contrib.dashboard._site import Shown

__all__ = ["ACTIONS", "Work", "Works", "shown"]

_logger = logging.getLogger("deferrable.dashboard")

ACTIONS: dict[str, Callable[[ErrorItem], Awaitable[None]]] = {
    "requeue": ErrorItem.requeue,
    "discard": ErrorItem.discard,
}
_MOST_KEPT = 20
_PLAIN = re.compile(r"[\w.:@/<>+-]{1,200}", re.ASCII)


def shown(text: str) -> str:
    """A text for the log: as it is, or quoted, so that it is no second line and no second field."""
    return text if _PLAIN.fullmatch(text) else short_repr(text)


@dataclass(slots=True)
class Work:
    """What was asked for, and how far it is.

    Attributes:
        total: how many are meant, as far as it was known at the beginning.
        problem: the last reason why one could not be settled.
    """

    id: str
    action: str
    instance: str
    total: int
    done: int = 0
    failed: int = 0
    is_over: bool = False
    problem: str | None = None


class Works:
    """The work of one dashboard; the last ones are remembered."""

    def __init__(self) -> None:
        self._works: OrderedDict[str, Work] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, work_id: str) -> Work | None:
        """The work with this id."""
        return self._works.get(work_id)

    async def begin(self, place: Shown, action: str, wanted: ErrorFilter, total: int) -> Work:
        """Begin, and wait for the end if it comes soon."""
        work = Work(secrets.token_hex(8), action, place.name, total)
        self._works[work.id] = work
        while len(self._works) > _MOST_KEPT:
            self._works.popitem(last=False)
        task = asyncio.get_running_loop().create_task(_settle(place, wanted, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task], timeout=0.5)
        return work


async def _settle(place: Shown, wanted: ErrorFilter, work: Work) -> None:
    settle = ACTIONS[work.action]
    try:
        async with place.instance.errors() as items:
            async for chosen in chunks(items, wanted):
                taken = await items.take(chosen)
                work.failed += len(chosen) - len(taken)
                reasons = await asyncio.gather(*(_reason(settle(each)) for each in taken))
                work.done += reasons.count(None)
                work.failed += len(reasons) - reasons.count(None)
                work.problem = next(filter(None, reasons), work.problem)
                await items.give_back()
                if wanted.id and chosen:
                    break
    except DeferrableError as error:
        work.problem = str(error)
    finally:
        work.is_over = True
        _logger.info(
            "%s ended: %d done, %d not, queue %s",
            work.action,
            work.done,
            work.failed,
            shown(work.instance),
        )


async def _reason(settling: Awaitable[None]) -> str | None:
    """None, or why an error could not be settled."""
    try:
        await settling
    except DeferrableError as error:
        return str(error)
    return None
