"""Pause a queue for all its consumers, and resume it.

Owns the verbs, and what a queue object remembers of the pause that its pops have seen.

The rules: once `pause` has returned, no pop of this library takes another item. Pushes, touches and
settlements go on. A queue whose store is away stays as it was last seen.
"""

from deferrable._codec.refusals import kind_of
from deferrable._durations import Duration, optional_seconds_of
from deferrable.aio._contract.checks import Checks
from deferrable.aio._contract.inspecting import FINDERS
from deferrable.errors import InvalidOptions, Unsupported
from deferrable.pause import Pause

__all__ = ["Pausing"]

_LONGEST_SECONDS = 10 * 365 * 86_400.0
"""Redis refuses lives whose milliseconds and the time exceed 64 bits; nobody means that long."""


class Pausing(Checks):
    """The verbs of a queue that can be paused. An adapter with `SUPPORTS_PAUSE` has the hooks.

    Attributes:
        seen_pause: the pause that the last pop has seen; None: it was not paused, as far as this
            object knows.
    """

    seen_pause: Pause | None = None

    async def _pause(self, pause: Pause) -> None:
        """See `pause`; called only if `SUPPORTS_PAUSE`.

        From then on, a pop must take nothing, also one that waits already, and set `seen_pause`. A
        pop that waits must return within a second, with nothing, when the queue is paused or
        resumed meanwhile. A pause replaces another one.
        """
        raise NotImplementedError

    async def _resume(self) -> bool:
        """See `resume`; called only if `SUPPORTS_PAUSE`."""
        raise NotImplementedError

    async def _find_pause(self) -> Pause | None:
        """See `find_pause`; called only if `SUPPORTS_PAUSE`."""
        raise NotImplementedError

    async def pause(self, *, for_seconds: Duration | None = None, reason: str = "") -> None:
        """Have no consumer take another item, in any process, from now on.

        Consumers go on with the items that they hold, and pushes go on. `pop_keys` still takes the
        items that it is asked for. Consumers of the Python 2 library know nothing of a pause.

        Args:
            for_seconds: then the queue is resumed by itself; None: when `resume` is called.
            reason: shown to those who ask why.

        Raises:
            InvalidOptions: `for_seconds` is not a duration over 0, or `reason` is not a text.
            Unsupported: this queue cannot be paused.
            BackendUnavailable: it may or may not be paused; pausing again is allowed.
        """
        self._check_pauses()
        seconds = optional_seconds_of("for_seconds", for_seconds, is_over=True)
        if seconds is not None and seconds > _LONGEST_SECONDS:
            raise InvalidOptions(
                f"for_seconds is over ten years ({_LONGEST_SECONDS:.0f} s), got {for_seconds!r}; "
                "leave it out, and the pause lasts until resume"
            )
        if not isinstance(reason, str):
            raise InvalidOptions(f"the reason of a pause is a text, got {kind_of(reason)}")
        now = self.clock.time()
        # A lone surrogate, of an argument of the command line, say, cannot be stored everywhere.
        shown = reason.encode(errors="backslashreplace").decode()
        await self._pause(Pause(now, None if seconds is None else now + seconds, shown))

    async def resume(self) -> bool:
        """Have consumers take items again. They notice within a second.

        Returns:
            whether it was paused.

        Raises:
            Unsupported: this queue cannot be paused.
            BackendUnavailable: it may or may not be resumed; resuming again is allowed.
        """
        self._check_pauses()
        return await self._resume()

    async def find_pause(self) -> Pause | None:
        """The pause of this queue, as its store has it now; None: it is not paused.

        Raises:
            Unsupported: this queue cannot be paused.
        """
        self._check_pauses()
        return await self._find_pause()

    def _check_pauses(self) -> None:
        if not self.SUPPORTS_PAUSE:
            raise Unsupported(f"{self!r} cannot be paused; {FINDERS} can (SUPPORTS_PAUSE says so)")
