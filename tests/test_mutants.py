"""Every sentence of the conformance suite finds the bug that was planted for it.

The suite runs against all mutants in one process. Whether a bug makes other sentences fail than its
entry names takes minutes to check; ``nox -s chaos`` does it.
"""

import inspect
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutants.planting import Mutant, sentences
from mutants.table import MUTANTS, SUITES
from processes import DEADLINE_SECONDS, ROOT

ALL = {name for suite in SUITES for name in sentences(suite)}


@pytest.fixture(scope="module")
def run() -> dict[str, dict[str, Any]]:
    """What `mutants.run` prints."""
    program = subprocess.run(
        [sys.executable, "-m", "mutants.run"],
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert program.returncode == 0, program.stderr[-2000:]
    told: dict[str, dict[str, Any]] = json.loads(program.stdout)
    return told


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_planted_bug_is_found_by_its_sentence(
    mutant: Mutant, run: dict[str, dict[str, Any]]
) -> None:
    assert run["failures"][mutant.name].get(mutant.sentence, 0) > 0
    assert run["broken"].get(mutant.name) is None


def test_every_sentence_of_the_suite_has_a_planted_bug() -> None:
    counts = Counter(mutant.sentence for mutant in MUTANTS if mutant.is_in_memory)

    assert set(counts) == ALL
    assert max(counts.values()) == 1


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_planted_bug_takes_the_arguments_of_what_it_stands_in_for(mutant: Mutant) -> None:
    own = {name: each for name, each in vars(mutant.part).items() if inspect.isfunction(each)}
    replaced = {
        name: getattr(base, name)
        for base in reversed(mutant.part.__mro__[1:])
        for name in own
        if hasattr(base, name)
    }

    unfit = [name for name, each in replaced.items() if not _takes(own[name], each)]

    assert unfit == []


def _takes(function: Callable[..., Any], replaced: Callable[..., Any]) -> bool:
    mine, its = (inspect.signature(each).parameters for each in (function, replaced))
    takes_any = any(each.kind is each.VAR_KEYWORD for each in mine.values())
    return takes_any or list(mine) == list(its)


def test_every_mutant_names_sentences_that_there_are() -> None:
    assert {name for mutant in MUTANTS for name in mutant.also} <= ALL
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
