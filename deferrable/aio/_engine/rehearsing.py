"""Rehearse a second delivery: run a share of the jobs twice, and report what differs.

Owns the second run. It follows the first at once, inside of the same attempt and before the item is
completed, with arguments that are decoded once more.

The one rule: the second run changes nothing for the item, whose outcome is that of the first.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deferrable._codec.refusals import describe
from deferrable._tame import tame
from deferrable.aio._engine.instance import Instance
from deferrable.aio._engine.registry import FoundCall, PassingRegistry
from deferrable.item import Item, id_text

__all__ = ["Rehearsal", "SecondRun", "rehearsing"]

_logger = logging.getLogger("deferrable")


@dataclass(frozen=True, slots=True)
class SecondRun:
    """A second run of a job that did not end like the first one.

    Attributes:
        job_name: of the job.
        item: whose job it is.
        error: what the second run raised; None: it returned.
        first: what the first run returned.
        second: what the second run returned; None if it raised.
    """

    job_name: str
    item: Item
    error: BaseException | None
    first: object
    second: object

    def __str__(self) -> str:
        if self.error is not None:
            how = f"raised {describe(self.error)}"
        else:
            how = "returned something else"
        return f"the second run of {self.job_name} (item {id_text(self.item)}) {how}"


class Rehearsal:
    """Which jobs run twice, and what came of it.

    Args:
        share: of the jobs, from 0 to 1.
        report: is called with each second run that ended in another way; None: it is logged.
        chance: returns a number from 0 to 1.

    Attributes:
        count: how many jobs ran twice.
        failed: how many second runs raised.
        different: how many second runs returned something else.
    """

    def __init__(
        self,
        share: float,
        report: Callable[[SecondRun], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._share = share
        self._report = _log if report is None else report
        self._chance = chance
        self.count = self.failed = self.different = 0

    def is_chosen(self) -> bool:
        """Whether this job runs twice."""
        return self._chance() < self._share

    def note_error(self, call: FoundCall, item: Item, first: object, error: BaseException) -> None:
        """The second run has raised."""
        self.count += 1
        self.failed += 1
        self._report(SecondRun(call.job.name, item, tame(error), first, None))

    def note_value(self, call: FoundCall, item: Item, first: object, second: object) -> None:
        """The second run has returned."""
        self.count += 1
        if not _are_equal(first, second):
            self.different += 1
            self._report(SecondRun(call.job.name, item, None, first, second))

    def __str__(self) -> str:
        jobs = "job" if self.count == 1 else "jobs"
        return (
            f"{self.count} {jobs} ran twice; {self.failed} failed in their second run, "
            f"{self.different} returned something else"
        )


@contextmanager
def rehearsing(instance: Instance, rehearsal: Rehearsal) -> Iterator[None]:
    """Have the jobs of an instance rehearse in the block."""
    registry = instance.registry

    def passed(call: FoundCall, item: Item) -> FoundCall:
        if not rehearsal.is_chosen():
            return call
        twice = _twice_async if call.job.is_async else _twice
        run = twice(call, item, registry.find, rehearsal)
        return FoundCall(call.job, run, call.args, call.kwargs)

    instance.registry = PassingRegistry(registry, passed)
    try:
        yield
    finally:
        instance.registry = registry


_Find = Callable[[Item], FoundCall]


def _twice(call: FoundCall, item: Item, find: _Find, rehearsal: Rehearsal) -> Callable[..., Any]:
    def run_inside(*args: Any, **kwargs: Any) -> Any:
        first = call.function(*args, **kwargs)
        try:
            again = find(item)
            second = again.function(*again.args, **again.kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            rehearsal.note_error(call, item, first, error)
        else:
            rehearsal.note_value(call, item, first, second)
        return first

    return run_inside


def _twice_async(
    call: FoundCall, item: Item, find: _Find, rehearsal: Rehearsal
) -> Callable[..., Any]:
    async def await_inside(*args: Any, **kwargs: Any) -> Any:
        first = await call.function(*args, **kwargs)
        try:
            again = find(item)
            second = await again.function(*again.args, **again.kwargs)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except asyncio.CancelledError:
            pass  # the job has done its work, so a stop only ends the rehearsal
        except BaseException as error:
            rehearsal.note_error(call, item, first, error)
        else:
            rehearsal.note_value(call, item, first, second)
        return first

    return await_inside


def _are_equal(first: object, second: object) -> bool:
    try:
        return bool(first == second)
    except Exception:
        return False


def _log(run: SecondRun) -> None:
    _logger.warning("rehearsal: %s; a queue may deliver a call twice", run)
