"""The keeper: it renews every lease of this process from a separate thread.

Owns the thread, with its event loop and broker connections, because a job may block the loop on
which it runs. It starts when there is something to keep, and ends when nobody needs it. `rounds`
decides when an item is touched.

Other threads add and remove items, without a lock. After adding an item, a thread reads when the
keeper wakes, and wakes it if that is too late. The keeper first notes that it never wakes, then
looks at the items, and last notes when it wakes. So it sees each item, or is woken for it.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

from deferrable._fork import on_fork, set_aside
from deferrable._portal import Portal
from deferrable.aio._contract.tasks import until_done
from deferrable.aio._engine.patched import patching_library
from deferrable.aio._engine.rounds import LEAD, Holder, Line, OnRound
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue

__all__ = ["Keeper", "keeper", "stop"]


class Keeper:
    """Renews the leases of its items, until they are dropped.

    Args:
        loop: where it works; None: in its own thread, which starts when there is something to do,
            and ends in `tidy` when nobody needs it any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        # By the id of the queue, which forgets its line when it goes: each job looks twice, and a
        # `WeakKeyDictionary` makes a reference each time.
        self._lines: dict[int, Line] = {}
        # Reentrant, for a signal handler that runs a job.
        self._lock = threading.RLock()
        self._loop = loop
        self._portal: Portal | None = None

    def keep(
        self,
        queue: Queue,
        envelope: Envelope,
        on_lost: Callable[[], object],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Renew the item's lease until it is dropped, or lost. Replaces an earlier `on_lost` of it.

        Args:
            on_lost: called on `loop` when the lease was lost.
            loop: where the item's job runs; it is kept while that runs. None: the running one.
        """
        line = self._lines.get(id(queue)) or self._add_line(queue)
        line.held[envelope] = Holder(on_lost, loop or asyncio.get_running_loop())
        if envelope.lease_end_time - queue.lease_seconds * LEAD < line.wake_time:
            with suppress(RuntimeError):  # the process is ending
                self._wake(line)

    def let_go(self, queue: Queue, envelope: Envelope) -> None:
        """Stop touching the item. May be called twice."""
        line = self._lines.get(id(queue))
        if line is not None:
            line.held.pop(envelope, None)

    def watch(self, queue: Queue, on_round: OnRound) -> None:
        """Run at least three rounds in a lease, even if nothing of `queue` is held.

        Args:
            on_round: called in the keeper's thread after each round, with None, or why nothing
                could be renewed.

        Raises:
            RuntimeError: Python starts no threads any more.
        """
        line = self._lines.get(id(queue)) or self._add_line(queue)
        line.watchers[on_round] = asyncio.get_running_loop()
        self._wake(line)

    def unwatch(self, queue: Queue, on_round: OnRound) -> None:
        """Undo `watch`. May be called without it."""
        line = self._lines.get(id(queue))
        if line is not None:
            line.watchers.pop(on_round, None)

    async def tidy(self) -> None:
        """End the timers, and the thread, if nobody needs them any more.

        Callers that held items for long call it. A caller of ``run_once`` does not pay for this: it
        leaves a timer behind, which finds nothing to do.
        """
        portal = self._portal
        if portal is None:
            await self._sweep()
            return
        try:
            tidying = asyncio.get_running_loop().run_in_executor(None, self._tidy, portal)
        except RuntimeError:  # the main thread has ended, and with it every executor
            self._tidy(portal)
        else:
            cancellation = await until_done(tidying)
            if cancellation is not None:
                raise cancellation

    def _tidy(self, portal: Portal) -> None:
        portal.end_of(self._sweep())
        if self._portal is not portal:
            portal.join()

    def call_soon(self, callback: Callable[[], None]) -> bool:
        """Make a short call on the keeper's loop, to see whether it turns.

        Returns:
            False: it has nothing to keep, so it has no thread.
        """
        if self._loop is not None:
            self._loop.call_soon_threadsafe(callback)
            return True
        portal = self._portal
        if portal is None:
            return False
        portal.call_soon(callback)
        return True

    def stop(self) -> None:
        """End the thread, because the process exits."""
        portal = self._portal
        if portal is not None:
            portal.stop()

    def _add_line(self, queue: Queue) -> Line:
        with self._lock:
            lines, key = self._lines, id(queue)
            return lines.setdefault(key, Line(queue, lambda: lines.pop(key, None)))

    def _wake(self, line: Line) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(line.look)
            return
        started: Portal | None = None
        with self._lock:  # so that the thread does not end meanwhile
            if self._portal is None:
                self._portal = started = Portal("deferrable-keeper")
            self._portal.call_soon(line.look)
        if started is not None:
            # Wait until it sleeps. A child that is forked past Python while another thread asks for
            # the interpreter's lock hangs, and many programs fork soon after they have begun.
            _, interrupt = started.end_of(asyncio.sleep(0))
            if interrupt is not None:
                raise interrupt

    async def _sweep(self) -> None:
        """End the lines that nobody needs, and the thread with the last of them."""
        with self._lock:
            lines = list(self._lines.values())
        rounds = [round_ for line in lines if (round_ := line.stop_round()) is not None]
        if rounds:
            await asyncio.wait(rounds)
        with self._lock:
            for line in lines:
                line.look()
            is_needed = any(line.is_needed or line.is_busy for line in self._lines.values())
            if self._portal is not None and not is_needed:
                self._portal.end()
                self._portal = None


class _Process:
    """The keepers of this process: one with a thread, and those without."""

    def __init__(self) -> None:
        self.keeper: Keeper | None = None
        self._on_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Keeper] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._is_stopped = False
        on_fork(self._reset_after_fork)

    def get(self, loop: asyncio.AbstractEventLoop) -> Keeper:
        with self._lock:
            if self.keeper is None and self._can_start_threads():
                self.keeper = Keeper()
            if self.keeper is not None:
                return self.keeper
            return self._on_loops.setdefault(loop, Keeper(loop))

    def _can_start_threads(self) -> bool:
        # gevent and eventlet run all threads in one, which cannot run two event loops.
        is_ending = self._is_stopped or not threading.main_thread().is_alive()
        return not is_ending and patching_library("threading") is None

    def stop(self) -> None:
        self._is_stopped = True
        running, self.keeper = self.keeper, None
        if running is not None:
            running.stop()

    def _reset_after_fork(self) -> None:
        set_aside((self.keeper, self._on_loops))
        self.keeper = None
        self._on_loops = WeakKeyDictionary()
        self._lock = threading.Lock()


_process = _Process()


def keeper(loop: asyncio.AbstractEventLoop) -> Keeper:
    """The keeper of this process.

    Args:
        loop: where it works if no thread can start, for example after the end of the main thread.
    """
    return _process.keeper or _process.get(loop)


def stop() -> None:
    """End the keeper's thread, because the process exits."""
    _process.stop()
