"""The results of several calls, for callers that cannot await. Decides nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

from deferrable.aio import results as awaiting
from deferrable.aio.results import EndedCall
from deferrable.handles import HandleVerbs
from deferrable.sync._door import refuse_portal_thread
from deferrable.sync._portal import portal

__all__ = ["gather_results", "results_as_they_end"]


def gather_results(
    calls: Iterable[HandleVerbs], *, timeout_seconds: float | None = None
) -> list[Any]:
    """The results of several calls, in their order; see `deferrable.aio.gather_results`."""
    refuse_portal_thread("await gather_results(...) of deferrable.aio")
    gathered: list[Any] = portal().run(
        awaiting.gather_results(calls, timeout_seconds=timeout_seconds)
    )
    return gathered


def results_as_they_end(
    calls: Iterable[HandleVerbs], *, timeout_seconds: float | None = None
) -> Iterator[EndedCall]:
    """How several calls ended, each as soon as it has ended; see `deferrable.aio`."""
    refuse_portal_thread("async for ... in results_as_they_end(...) of deferrable.aio")
    ending = awaiting.results_as_they_end(calls, timeout_seconds=timeout_seconds)
    try:
        while (ended := portal().run(_next(ending))) is not None:
            yield ended
    finally:
        portal().run(ending.aclose())


async def _next(ending: "awaiting.Ending") -> EndedCall | None:
    return await anext(ending, None)
