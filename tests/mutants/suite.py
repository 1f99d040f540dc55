"""What pytest collects: the suite, once for each mutant.

Owns the classes that pytest finds in this module, which `mutants.run` gives to it. It is none of
the project's own tests, so its name does not begin with ``test``.
"""

import os
from typing import Any

from deferrable.aio.backend.base import Backend
from deferrable.testing import MovingClock
from mutants.planting import Mutant, PlantedFactory, sentences
from mutants.table import MUTANTS, SUITES

WAIT_SECONDS = 3


def _make_class(mutant: Mutant, suite: type, kept: frozenset[str]) -> type:
    waits = hasattr(suite, "wait_seconds")

    def make_backend(self: Any, clock: MovingClock) -> Backend:
        if not hasattr(self, "factory"):
            self.factory = PlantedFactory(mutant.part, WAIT_SECONDS if waits else None, clock)
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
