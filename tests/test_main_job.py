"""The main job on real input: real airports through one queue, by four processes.

It is run once on SQLite and once on Redis; each test looks at one promise. What it is stands in
``examples/airports``.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from redis_server import unique_group
from sizes import sized

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[1]
AIRPORTS = sized(1_200, 10_000)

Report: TypeAlias = dict[str, Any]


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def report(request: pytest.FixtureRequest) -> Report:
    """What the main job prints at its end. Without a URL it is on SQLite."""
    known = {name: value for name, value in os.environ.items() if name != "DEFERRABLE_URL"}
    if request.param == "redis":
        known["DEFERRABLE_URL"] = request.getfixturevalue("redis_url")
    done = subprocess.run(
        [sys.executable, "-m", "airports", str(AIRPORTS), "--json"],
        cwd=ROOT / "examples",
        env={
            **known,
            "PYTHONPATH": str(ROOT),
            "AIRPORTS_GROUP": unique_group(),
        },
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.stderr == ""
    told: Report = json.loads(done.stdout)
    print(f"{AIRPORTS} airports in {told['seconds']:.1f} s")
    return told


def total(report: Report, event: str) -> int:
    return sum(counts.get(event, 0) for counts in report["events"].values())


def test_every_job_ran_to_the_result_that_one_process_computes(report: Report) -> None:
    assert report["right_hubs"] == [AIRPORTS + 1, AIRPORTS + 1]


def test_both_producers_and_both_consumers_had_their_share(report: Report) -> None:
    events = report["events"]

    assert events["produce_blocking"]["push"] == events["produce_asyncio"]["push"] + 1
    assert events["consume_blocking"]["complete"] > 0
    assert events["consume_asyncio"]["complete"] > 0


def test_every_item_that_was_pushed_was_popped_and_completed(report: Report) -> None:
    pushed = total(report, "push") + total(report, "retry") + report["requeued"]

    # An item that ran twice, or a lease that was lost, would show here.
    assert total(report, "pop") == pushed
    assert total(report, "complete") == pushed
    assert report["duplicates"] == 0


def test_those_that_failed_at_their_first_attempt_were_retried(report: Report) -> None:
    retried, expected = report["retried"]

    assert retried == expected > AIRPORTS / 50


def test_delayed_jobs_ran_and_none_before_its_time(report: Report) -> None:
    delayed, expected = report["delayed"]

    assert delayed == expected > AIRPORTS / 20
    assert report["early"] == [0, 0]


def test_a_debounced_job_ran_seldom_and_after_the_last_call(report: Report) -> None:
    assert report["recount_calls"] == AIRPORTS + 1
    assert 0 < report["countries"] <= report["recounts"] < AIRPORTS / 2
    # A country whose last call had been lost would be counted short.
    assert report["right_counts"] == [report["countries"], report["countries"]]


def test_what_had_no_time_to_live_expired_and_the_rest_ran(report: Report) -> None:
    assert report["expired"] == [100, 100]
    assert report["boarded"] == [100, 100]


def test_metadata_arrived_with_every_job(report: Report) -> None:
    assert report["right_producers"] == [AIRPORTS + 1, AIRPORTS + 1]


def test_what_failed_was_seen_in_the_error_queue_and_requeued_and_completed(
    report: Report,
) -> None:
    assert report["errored"] == [1, 1]
    assert report["error_text"] == "KeyError: 'ZZZZ'"
    assert report["requeued"] == 1
    assert report["is_right"]


def test_a_line_shows_how_far_the_run_is_and_the_folder_is_removed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airports", "200"],
        cwd=ROOT / "examples",
        env={
            **{name: value for name, value in os.environ.items() if name != "DEFERRABLE_URL"},
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    live, _, summary = done.stdout.partition("\n200 real airports")
    assert re.fullmatch(
        r" *\d+ s +\d+ of 201 hubs; \d+ available, \d+ in flight, \d+ delayed, \d+ failed",
        live.splitlines()[0],
    )
    assert "one SQLite file" in summary
    assert "right hubs           201 of    201" in summary
    assert list(tmp_path.iterdir()) == []
