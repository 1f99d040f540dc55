"""Check the models of the protocols in every state that they can reach, with spin.

Owns which claims must hold of which model, and which planted bug must break which claim: a model
that finds no bug proves nothing. ``docs/reliability.md`` says what the models cover. It needs
``spin`` and a C compiler.

Usage: ``python -m models.check`` in ``tests/``. The exit code is 1 if a verdict is not the expected
one, and 2 if a tool is missing.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
TOOLS = ("spin", "gcc")
MOST_STEPS = "100000"
"""The longest path that is followed; the checker reports one that is longer as an error."""


@dataclass(frozen=True, slots=True)
class Check:
    """One claim on one variant of a model.

    Attributes:
        model: the file, without its suffix.
        claim: the name of its ``ltl`` formula. The model's assertions are checked with each.
        switches: names that the model's preprocessor shall know.
        holds: no state breaks the claim; False: a planted bug must break it.
    """

    model: str
    claim: str
    switches: tuple[str, ...] = ()
    holds: bool = True

    def __str__(self) -> str:
        return " ".join([f"{self.model:9}", f"{self.claim:24}", *self.switches]).rstrip()


CHECKS = [
    Check("lease", "nothing_is_lost"),
    Check("lease", "nothing_is_lost", ("TWO_STEPS",)),
    Check("lease", "nothing_is_lost", ("NO_FENCE",), holds=False),
    Check("lease", "nothing_is_lost", ("TWO_STEPS", "COMPLETES_FIRST"), holds=False),
    Check("debounce", "one_waits"),
    Check("debounce", "the_last_update_runs"),
    Check("debounce", "one_waits", ("TWO_STEPS",)),
    Check("debounce", "the_last_update_runs", ("TWO_STEPS",)),
    Check("debounce", "one_waits", ("READS_FIRST",), holds=False),
    Check("debounce", "the_last_update_runs", ("MARK_STAYS",), holds=False),
    Check("debounce", "the_last_update_runs", ("TWO_STEPS", "TRUSTS"), holds=False),
    Check("cancel", "cancelled_never_starts"),
    Check("cancel", "too_late_means_popped"),
    Check("cancel", "cancelled_never_starts", ("MARKS_ONLY",), holds=False),
    Check("cancel", "too_late_means_popped", ("LOOKS_ONLY",), holds=False),
    Check("unique", "one_item"),
    Check("unique", "key_is_the_items"),
    Check("unique", "one_item", ("OLD",)),
    Check("unique", "item_has_its_key", ("OLD",)),
    Check("unique", "one_item", ("UNFENCED",), holds=False),
    Check("unique", "key_is_the_items", ("APART",), holds=False),
    Check("unique", "one_item", ("OLD", "NO_COMPARISON"), holds=False),
    Check("unique", "one_item", ("OLD", "SAME_RECORD"), holds=False),
    Check("tick", "each_once"),
    Check("tick", "none_is_lost"),
    Check("tick", "each_once", ("TWO_STEPS",)),
    Check("tick", "none_is_lost", ("TWO_STEPS",)),
    Check("tick", "each_once", ("READS_FIRST",), holds=False),
    Check("tick", "none_is_lost", ("TWO_STEPS", "FORGETS"), holds=False),
]


def run(check: Check) -> tuple[int, int]:
    """How many errors were found, and how many states were looked at.

    Raises:
        RuntimeError: a tool failed, or left a part of the states out.
    """
    with tempfile.TemporaryDirectory() as folder:
        switches = [f"-D{each}" for each in check.switches]
        _call(folder, "spin", "-a", *switches, str(FOLDER / f"{check.model}.pml"))
        _call(folder, "gcc", "-O1", "-w", "-o", "pan", "pan.c")
        output = _call(folder, "./pan", "-a", f"-m{MOST_STEPS}", "-N", check.claim)
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    if errors is None or states is None or "max search depth too small" in output:
        raise RuntimeError(f"{check}: the checker did not finish\n{output}")
    return int(errors[1]), int(states[1])


def _call(folder: str, *command: str) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def verdicts(checks: list[Check]) -> Iterator[tuple[bool, str]]:
    """Whether each check ended as expected, and a line for it."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for check, (errors, states) in zip(checks, pool.map(run, checks), strict=True):
            found = "holds" if errors == 0 else "broken"
            expected = "holds" if check.holds else "broken"
            good = found == expected
            note = "" if good else f"   EXPECTED: {expected}"
            yield good, f"{check!s:60} {found:6} {states:>8} states{note}"


def main() -> int:
    missing = [each for each in TOOLS if shutil.which(each) is None]
    if missing:
        print(f"not found: {', '.join(missing)}; on Debian: apt-get install spin gcc")
        return 2
    failed = 0
    for good, line in verdicts(CHECKS):
        failed += not good
        print(line, flush=True)
    bugs = sum(not each.holds for each in CHECKS)
    print(f"{len(CHECKS) - bugs} claims, {bugs} planted bugs, {failed} unexpected verdicts")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
