"""What pytest collects: the suite, once for each mutant.

Owns the classes that pytest finds in this module, which `mutants.run` gives to it. It is none of
the project's own tests, so its name does not begin with ``test``.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deferrable.aio.backend.base import Backend
from deferrable.testing import MovingClock
from mutants.planting import Mutant, PlantedFactory, PlantedFile, sentences
from mutants.table import MUTANTS, SUITES

WAIT_SECONDS = 3


def _make_class(mutant: Mutant, suite: type, kept: frozenset[str]) -> type:
    waits = hasattr(suite, "wait_seconds")

    def make_backend(self: Any, clock: MovingClock) -> Backend:
        if not hasattr(self, "factory"):
            wait_seconds = WAIT_SECONDS if waits else None
            if mutant.is_in_memory:
                self.factory = PlantedFactory(mutant.part, wait_seconds, clock)
            else:
                self.folder = TemporaryDirectory(ignore_cleanup_errors=True)
                path = Path(self.folder.name, "jobs.db")
                self.factory = PlantedFile(mutant.part, wait_seconds, clock, path)
        made: Backend = self.factory.create()
        return made

    hidden = {name: None for name in sentences(suite) if name not in kept}
    name = f"Test{mutant.name}{'Waiting' if waits else ''}"
    return type(name, (suite,), {"make_backend": make_backend, "mutant": mutant, **hidden})


def _fill(module: dict[str, Any]) -> None:
    only = os.environ.get("DEFERRABLE_MUTANT")
    is_whole = "DEFERRABLE_WHOLE_SUITE" in os.environ
    for mutant in MUTANTS:
        if only not in (None, mutant.name):
            continue
        for suite in SUITES:
            names = frozenset(sentences(suite))
            kept = names if is_whole else names & {mutant.sentence}
            if kept:
                made = _make_class(mutant, suite, kept)
                module[made.__name__] = made


_fill(globals())
