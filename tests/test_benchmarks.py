"""The benchmark beside other libraries: it runs, and refuses what is not exact; never times."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import DEADLINE_SECONDS

from benchmarks.peers.catalogue import PROCESS, RAW, US, choose, our_name
from benchmarks.peers.ledger import Ledger
from benchmarks.peers.results import Results
from benchmarks.peers.table import render
from benchmarks.peers.targets import judge

ROOT = Path(__file__).parents[1]


def test_the_benchmark_runs_in_small_and_every_job_runs_once(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--scale", "small", "--rounds", "1", "--cells"]
    cells = "enqueue,together,sleep,latency,results,memory"
    peers = ",".join([US, our_name(PROCESS)])

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.peers",
            *options,
            cells,
            "--peers",
            peers,
            "--json",
            figures,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    results = Results.read(figures)
    assert results.troubles == []
    assert {
        "single",
        "concurrent",
        "batch",
        "process",
        "naps",
        "p50",
        "awaited",
        "in_memory",
    } <= set(results.samples[US])
    assert {"single", "batch", "process", "together", "naps", "p50"} <= set(
        results.samples[our_name(PROCESS)]
    )
    assert done.stdout.count("| process no-ops ") == 2


def test_libraries_are_chosen_by_name_or_by_store() -> None:
    assert [peer.name for peer in choose(["arq", US])] == [US, "arq"]
    assert {peer.store for peer in choose([PROCESS])} == {PROCESS}
    with pytest.raises(ValueError, match="unknown peers nobody"):
        choose(["nobody"])


def test_libraries_are_compared_with_those_of_their_own_store() -> None:
    results = Results()
    results.add(US, {"process": 100.0})
    results.add(our_name(PROCESS), {"process": 50.0})
    results.add("huey-file-process", {"process": 10.0})
    results.add("huey", {"process": 20.0})

    rows = [[cell.strip() for cell in line.split("|")] for line in render(results, []).splitlines()]

    ratios = [row[-2] for row in rows if len(row) > 3 and row[1] == "process no-ops"]
    assert ratios == ["5.00 huey", "5.00 huey-file-process"]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.make(tmp_path / "ledger", 3)


def test_a_run_in_which_each_job_ran_once_is_exact(ledger: Ledger) -> None:
    for number in range(3):
        ledger.begin(number)

    assert ledger.are_done(3, with_ends=False)
    assert ledger.tally(3, with_ends=False).is_exact


def test_a_job_that_never_ran_is_counted_as_missing(ledger: Ledger) -> None:
    ledger.begin(0)
    ledger.begin(2)

    tally = ledger.tally(3, with_ends=False)
    assert (tally.missing, tally.doubled, tally.is_exact) == (1, 0, False)
    assert not ledger.are_done(3, with_ends=False)


def test_a_job_that_ran_twice_is_counted_as_doubled(ledger: Ledger) -> None:
    for number in (0, 1, 1, 2):
        ledger.begin(number)

    tally = ledger.tally(3, with_ends=False)
    assert (tally.missing, tally.doubled, tally.is_exact) == (0, 1, False)


def test_a_ratio_above_one_means_that_deferrable_is_better() -> None:
    results = Results()
    results.add(RAW, {"single": 100.0})
    results.add(US, {"single": 90.0, "p50": 1.0})
    results.add("arq", {"single": 45.0, "p50": 3.0})

    rows = [[cell.strip() for cell in line.split("|")] for line in render(results, []).splitlines()]

    by_title = {row[1]: row[-3:-1] for row in rows if len(row) > 3}
    assert by_title["enqueue one by one"] == ["0.90", "2.00 arq"]
    assert by_title["latency p50"] == ["-", "3.00 arq"]


def test_a_target_is_judged_by_medians_and_left_open_without_figures() -> None:
    results = Results()
    for ours, raw in ((80.0, 100.0), (95.0, 100.0), (96.0, 100.0)):
        results.add(US, {"single": ours})
        results.add(RAW, {"single": raw})

    targets = {target.title: target for target in judge(results, ideal_naps_seconds=2.5)}

    assert targets["one by one / raw"].is_met is True
    assert targets["8 threads / rq"].is_met is None
