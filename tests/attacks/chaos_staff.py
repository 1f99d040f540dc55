"""The processes of a chaos run: workers and producers, each at its place.

Owns starting them, sending them signals, and replacing those that have ended. Each is ended by its
own process id.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from attacks.chaos_process import Settings
from deferrable.testing import wait_until

__all__ = ["Member", "Staff"]

TESTS = Path(__file__).parents[1]
LOOK_SECONDS = 0.1
MOST_TROUBLES = 10


class Member:
    """One process.

    Attributes:
        who: its name; another one at the same place has another.
        is_told_to_leave: it ends in order, and is replaced while it does.
    """

    def __init__(self, settings: Settings, log: Path) -> None:
        self.who, self.place = settings.who, settings.place
        self.is_told_to_leave = False
        self._was_killed = False
        self._up = Path(settings.folder, f"{settings.who}.up")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "attacks.chaos_process", settings.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
            )

    def send(self, number: signal.Signals) -> None:
        self._was_killed = self._was_killed or number == signal.SIGKILL
        self._process.send_signal(number)  # harmless when it has ended

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def is_up(self) -> bool:
        """Whether it does its work, and reacts to signals."""
        return self._up.exists()

    @property
    def has_finished(self) -> bool:
        """Whether it has ended in order, by itself or on request."""
        return self._process.poll() == 0

    @property
    def trouble(self) -> str | None:
        """What was wrong with its end, as text."""
        code = self._process.poll()
        if not code or (self._was_killed and code == -signal.SIGKILL):
            return None
        if code == -signal.SIGTERM and not self.is_up:
            return None  # The signal came before the process could handle one: it held nothing.
        return f"{self.who} ended with {code}"

    def end(self) -> None:
        """Kill it if it still runs."""
        if not self.has_ended:
            self._process.kill()
        self._process.wait()


class Staff:
    """The processes that there are; those that end too early are replaced.

    Args:
        settings: of the processes at each place, which differ in their names only.
        url_of: where a place reaches the broker.

    Attributes:
        troubles: what was wrong with those that have ended, in words.
        started: how many processes there were.
    """

    def __init__(
        self, settings: list[Settings], url_of: Callable[[str], Awaitable[str]], log: Path
    ) -> None:
        self._settings = {each.place: each for each in settings}
        self._url_of = url_of
        self._log = log
        self._present: dict[str, Member] = {}
        self._leaving: list[Member] = []
        self._generations = dict.fromkeys(self._settings, 0)
        self._keeping: asyncio.Task[None] | None = None
        self.troubles: list[str] = []

    @property
    def started(self) -> int:
        return sum(self._generations.values())

    async def __aenter__(self) -> Self:
        for place in self._settings:
            await self._start(place)
        self._keeping = asyncio.ensure_future(self._keep_all_present())
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stop_keeping()
        for member in [*self._present.values(), *self._leaving]:
            member.end()

    def members(self, role: str) -> list[Member]:
        """The last ones of a role at each place."""
        return [each for place, each in self._present.items() if place.startswith(role)]

    async def wait_for(self, role: str) -> None:
        """Return once all of a role have done their work and left."""
        while not all(each.has_finished for each in self.members(role)):
            if len(self.troubles) > MOST_TROUBLES:
                raise AssertionError(f"processes end again and again: {self.troubles}")
            await asyncio.sleep(LOOK_SECONDS)

    async def wait_until_up(self, deadline_seconds: float) -> None:
        """Return once everybody is at work."""
        everybody = self._present.values()
        await wait_until(
            lambda: all(each.is_up for each in everybody), "everybody works", deadline_seconds
        )

    async def dismiss(self, deadline_seconds: float) -> None:
        """Ask all to leave in order, and return when they have left."""
        await self._stop_keeping()
        everybody = [*self._present.values(), *self._leaving]
        for member in everybody:
            if not member.is_told_to_leave:
                member.send(signal.SIGTERM)
        await wait_until(
            lambda: all(each.has_ended for each in everybody), "everybody left", deadline_seconds
        )
        self.troubles.extend(filter(None, (each.trouble for each in everybody)))

    async def _stop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping

    async def _start(self, place: str) -> None:
        generation = self._generations[place]
        self._generations[place] += 1
        settings = replace(
            self._settings[place], who=f"{place}.{generation}", url=await self._url_of(place)
        )
        self._present[place] = Member(settings, self._log)

    async def _keep_all_present(self) -> None:
        while True:
            for place, member in list(self._present.items()):
                has_work = not (self._settings[place].calls and member.has_finished)
                if not (has_work and (member.has_ended or member.is_told_to_leave)):
                    continue
                self._leaving.append(member)
                await self._start(place)
            for member in [each for each in self._leaving if each.has_ended]:
                self._leaving.remove(member)
                self.troubles.extend(filter(None, [member.trouble]))
            await asyncio.sleep(LOOK_SECONDS)
