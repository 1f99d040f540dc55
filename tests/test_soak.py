"""The soak: it runs, and distinguishes growth from what comes and goes."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import DEADLINE_SECONDS

from benchmarks.soak import Sample, find_growth

ROOT = Path(__file__).parents[1]


def test_the_soak_runs_in_small_and_leaves_nothing_in_redis() -> None:
    options = ["--seconds", "2", "--rate", "100"]

    done = subprocess.run(
        [sys.executable, "benchmarks/soak.py", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert "completed" in done.stdout, done.stderr
    assert "is left in Redis" not in done.stdout


@pytest.mark.parametrize(
    ("samples", "grown"),
    [
        ([(50_000, 16, 200_000)] * 20, []),
        ([(30_000, 9, 100_000)] * 5 + [(50_000, 16, 200_000)] * 15, []),
        ([(50_000, 16, 200_000), (52_000, 18, 201_000)] * 10, []),
        ([(50_000 + 1_000 * n, 16, 200_000) for n in range(20)], ["memory"]),
        ([(50_000, 16, 200_000 + 500 * n) for n in range(20)], ["blocks"]),
        ([(50_000, 16 + n // 4, 200_000) for n in range(20)], ["file"]),
        ([(50_000, 16, 200_000)], []),
    ],
    ids=["flat", "warming up", "up and down", "memory", "blocks", "descriptors", "too short"],
)
def test_what_grows_is_found(samples: list[tuple[int, int, int]], grown: list[str]) -> None:
    found = find_growth([Sample(*each) for each in samples])

    assert [text.split()[0] for text in found] == grown
