"""The pause of a Dockets queue, and how a consumer learns of it.

Owns the key of the pause, and what this consumer has seen of it last. The script of a pop takes
nothing from a paused queue. A command that waits for an entry is followed by a look at the key, in
the same write, so an entry that came after the pause goes back. A pop that waits for long also
looks once a second, so that its worker can say that it is paused.

The one rule: whatever has changed ends the running pop. So its caller learns of it within a second.
"""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, cast

from deferrable.aio.backend._redis.link import script
from deferrable.aio.backend.dockets._commands import Commands
from deferrable.aio.backend.dockets._wait import Wait
from deferrable.aio.clock import Clock
from deferrable.errors import BackendError
from deferrable.pause import Pause, pause_in, text_of

__all__ = ["Pauses"]

_LOOK_SECONDS: Final = 1.0
"""How often a pop that waits for items looks. This is all that pausing costs an idle consumer."""

_SHORTEST_REST_SECONDS: Final = 0.2
"""A wait that ends so soon looks at its end anyway."""

_PAUSED_LOOK_SECONDS: Final = 0.5
"""How often a pop of a paused queue looks."""


class Pauses:
    """Pauses one queue, for one consumer of it.

    Args:
        clock: the machine's, or an injected one.
        is_injected: whether the queue follows that clock, and not the server's.

    Attributes:
        seen: the pause that was seen last; None: there was none.
    """

    def __init__(self, commands: Commands, clock: Clock, *, is_injected: bool) -> None:
        self._commands = commands
        self._clock = clock
        self._is_injected = is_injected
        self._looking: set[asyncio.Task[None]] = set()
        self.seen: Pause | None = None

    # The verbs.

    async def pause(self, pause: Pause) -> None:
        milliseconds: int | str = ""
        if pause.until_time is not None and not self._is_injected:
            milliseconds = max(1, math.ceil((pause.until_time - pause.since_time) * 1000))
        keys = (self._commands.keys.paused,)
        await self._commands.link.run(script("dockets_pause"), keys, (text_of(pause), milliseconds))

    async def resume(self) -> bool:
        (text,) = await self._commands.link.call(("GETDEL", self._commands.keys.paused))
        return self.read(text) is not None

    async def find(self) -> Pause | None:
        return self.read(await self._read_key())

    def read(self, text: bytes | None) -> Pause | None:
        """The pause that the key holds as `text`."""
        if text is None:
            return None
        now = self._clock.time()
        pause = pause_in(text, now)
        # Otherwise the server ends it, and this machine's clock may be wrong.
        return None if self._is_injected and pause.is_over(now) else pause

    # What a pop does.

    def note(self, text: bytes | None, wait: Wait) -> bool:
        """Note what the key holds. Return whether the queue is paused.

        The pop ends if this is not as it was when the pop began.
        """
        pause = self.seen = self.read(text)
        is_paused = pause is not None
        if is_paused != wait.was_paused:
            wait.interrupt()
        return is_paused

    async def wait_for_end(self, wait: Wait) -> None:
        """Return when the queue is not paused any more, or the wait is over."""
        while (rest_seconds := wait.rest_seconds()) > 0:
            await wait.sleep(min(rest_seconds, _PAUSED_LOOK_SECONDS))
            if wait.rest_seconds() > 0 and not self.note(await self._read_key(), wait):
                return

    @contextmanager
    def watched(self, wait: Wait, seconds: float) -> Iterator[None]:
        """A command waits on the server inside the block, for some seconds at most."""
        loop = asyncio.get_running_loop()
        end_time = loop.time() + seconds - _SHORTEST_REST_SECONDS
        timer: asyncio.TimerHandle | None = None

        def start() -> None:
            task = loop.create_task(self._look_in_passing(wait))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)
            arm()

        def arm() -> None:
            nonlocal timer
            moment = loop.time() + _LOOK_SECONDS
            timer = loop.call_at(moment, start) if moment < end_time else None

        arm()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    async def _look_in_passing(self, wait: Wait) -> None:
        with suppress(BackendError):  # without an answer, the last one counts
            text = await self._read_key()
            if wait.has_command:  # else the pop has looked by itself
                self.note(text, wait)

    async def _read_key(self) -> bytes | None:
        (text,) = await self._commands.link.call(("GET", self._commands.keys.paused))
        return cast("bytes | None", text)
