"""A worker for callers that cannot await.

Owns the thread in which it works, and how the caller reads and leaves it. The worker has its own
event loop, not the portal's. So code that runs on it, such as a plain event handler, may make
blocking calls like any other thread.
"""

from types import TracebackType
from typing import Self

from deferrable._ended import unwrap
from deferrable._portal import Portal
from deferrable._wrong_api import PlainFor
from deferrable.aio._engine.patched import refuse_patched
from deferrable.aio.worker import _life as awaiting
from deferrable.aio.worker._health import Health
from deferrable.outcome import Outcome, WorkSummary
from deferrable.sync._door import refuse_portal_thread

__all__ = ["Worker"]


class Worker(PlainFor):
    """Pops items and runs their jobs until it is left or stopped; see `deferrable.aio.Worker`.

    ``with instance.worker() as worker: for outcome in worker: ...``. Plain jobs run in the worker's
    threads, async ones on its event loop. An interrupt (Ctrl-C) of the loop leaves the block, and
    stops the worker within the grace period.
    """

    def __init__(self, core: awaiting.Worker) -> None:
        self._core = core
        self._portal: Portal | None = None

    @property
    def health(self) -> Health:
        """Whether the brokers answer."""
        return self._core.health

    def __enter__(self) -> Self:
        portal = self._begin()
        try:
            portal.run(self._core.__aenter__())
        except BaseException:
            portal.stop()
            raise
        return self

    def _begin(self) -> Portal:
        refuse_portal_thread("async with ... of deferrable.aio")
        if self._portal is not None:
            raise RuntimeError("a worker can be entered only once; make another: instance.worker()")
        refuse_patched()  # before the thread is started, which would never run
        self._portal = Portal("deferrable-worker")
        return self._portal

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._portal is None:
            return
        try:
            ended, interrupt = self._portal.end_of(
                self._core.__aexit__(error_type, error, traceback), is_cancelled_by_interrupt=False
            )
        finally:
            self._portal.stop()
        if interrupt is not None:
            raise interrupt
        unwrap(ended)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome:
        """The next outcome.

        Raises:
            StopIteration: the worker has stopped, and every outcome was read.
            RuntimeError: it was not entered.
        """
        outcome = self._entered().run(self._core.next_outcome())
        if outcome is None:
            raise StopIteration
        return outcome

    def run(self, *, until_empty: bool = False) -> WorkSummary:
        """Work until the worker is stopped; see `deferrable.aio.Worker.run`.

        Args:
            until_empty: stop when nothing is available or in flight in its queue.
        """
        portal = self._begin()
        try:
            return portal.run(self._core.run(until_empty=until_empty))
        finally:
            portal.stop()

    def until_empty(self) -> int:
        """Return when nothing is available or in flight; see `deferrable.aio.Worker`.

        Raises:
            RuntimeError: it was not entered.
        """
        return self._entered().run(self._core.until_empty())

    def _entered(self) -> Portal:
        if self._portal is None:
            raise RuntimeError("this worker was not entered; with instance.worker() as worker: ...")
        return self._portal

    def stop(self) -> None:
        """Pop no more, and stop within the grace period. May be called from any thread.

        A second call ends the grace period. A signal handler may call it, too.
        """
        self._core.stop()
