"""Run the suite against every mutant: ``python -m mutants.run [--whole] [--only NAME]``.

Owns one run of pytest and its result: for each mutant, which sentences failed. It prints JSON:
``failures``, mutant -> sentence -> how many of its cases failed; and ``broken``, mutant -> why it
does not fit the code any more. With ``--whole`` each mutant gets the whole suite instead. Then it
prints how many were found and what fails beyond what an entry names, and exits with 1 if anything
is wrong.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

HASTE = 600
"""Items that a mutant keeps back never come, so deadlines are shorter by this factor."""
HASTE_OF_WHOLE = 60
"""Where other sentences have to pass meanwhile, on a busy machine too."""


class Recorder:
    """Notes what failed, by mutant and sentence; a failing teardown does not count.

    Once a sentence has failed on a mutant, its further cases are left out.
    """

    def __init__(self) -> None:
        self.failures: dict[str, Counter[str]] = {}
        self.broken: dict[str, str] = {}
        self.cases = 0

    def pytest_runtest_setup(self, item: Any) -> None:
        if self.failures.get(item.cls.mutant.name, {}).get(item.originalname):
            pytest.skip("found already")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
        report = yield
        if report.when == "call":
            self.cases += 1
            counts = self.failures.setdefault(item.cls.mutant.name, Counter())
            if report.failed:
                counts[item.originalname] += 1
                if isinstance(call.excinfo.value, TypeError | AttributeError | NameError):
                    self.broken[item.cls.mutant.name] = repr(call.excinfo.value)
        return report


def run(only: str | None, is_whole: bool) -> Recorder:
    """Run the suite in this process, which is to be used for nothing else."""
    if only is not None:
        os.environ["DEFERRABLE_MUTANT"] = only
    if is_whole:
        os.environ["DEFERRABLE_WHOLE_SUITE"] = "1"
    from deferrable.testing import waiting

    haste = HASTE_OF_WHOLE if is_whole else HASTE
    hasty = SimpleNamespace(monotonic=lambda: time.monotonic() * haste)
    waiting.time = hasty  # type: ignore[assignment]
    recorder = Recorder()
    suite = str(Path(__file__).with_name("suite.py"))
    # Failures are the result, and `main` prints them.
    options = ["-q", "--tb=no", "-rN", "-p", "no:cacheprovider", "--no-header"]
    if is_whole:
        options += ["-k", "not blocking"]  # twice the time, and finds nothing more
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main([suite, *options, "-W", "ignore", "--timeout=20"], plugins=[recorder])
    return recorder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="NAME")
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    recorder = run(options.only, options.whole)
    if options.whole:
        return _report(recorder, options.only)
    print(json.dumps({"failures": recorder.failures, "broken": recorder.broken}))
    return 0


def _report(recorder: Recorder, only: str | None) -> int:
    from mutants.table import MUTANTS

    mutants = [each for each in MUTANTS if only in (None, each.name)]
    found, wrong = 0, []
    for mutant in mutants:
        failed = set(recorder.failures.get(mutant.name, ()))
        found += mutant.sentence in failed
        if mutant.sentence not in failed:
            wrong.append(f"{mutant.name} is not found by {mutant.sentence}")
        if beyond := sorted(failed - {mutant.sentence} - mutant.also):
            wrong.append(f"{mutant.name} fails {', '.join(beyond)} as well")
        if mutant.name in recorder.broken:
            wrong.append(f"{mutant.name} does not fit any more: {recorder.broken[mutant.name]}")
    print(
        f"planted bugs: {found} of {len(mutants)} found by their sentence, in {recorder.cases} "
        f"cases; {len(wrong)} surprises"
    )
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
