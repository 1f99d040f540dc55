"""Nothing is lost while processes, connections and the broker fail: the short version of the
attack, and the judge that it is measured by.
"""

import asyncio
from pathlib import Path

import pytest
from sizes import sized

from attacks.chaos import parse, run_chaos
from attacks.chaos_books import Buried, Verdict, judge
from attacks.chaos_causes import Fault
from attacks.chaos_jobs import DELAYED_SECONDS
from attacks.chaos_ledger import Ledger, Line, read_lines

LEASE = 2.0
JOBS, SPREAD_SECONDS = sized(150, 400), sized(4, 6)
SQS_JOBS = sized(40, 80)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("broker", "seed"), [("redis", 1), ("redis6", 2)])
def test_nothing_is_lost_whatever_fails_around_the_workers(
    broker: str, seed: int, tmp_path: Path
) -> None:
    arguments = ["--broker", broker, "--seed", str(seed), "--jobs", str(JOBS)]
    options = parse([*arguments, "--lease-seconds", "1.5"])
    options.every_seconds, options.spread_seconds = SPREAD_SECONDS / 12, SPREAD_SECONDS

    verdict = asyncio.run(run_chaos(options, tmp_path))

    assert verdict.holds, "\n".join([*verdict.lines(), (tmp_path / "log").read_text()])
    assert verdict.pushed + verdict.skipped == JOBS


@pytest.mark.timeout(600)
def test_nothing_is_lost_whatever_fails_around_the_workers_on_a_file(tmp_path: Path) -> None:
    arguments = ["--broker", "sqlite", "--seed", "3", "--jobs", str(JOBS)]
    options = parse([*arguments, "--lease-seconds", "1.5"])
    options.every_seconds, options.spread_seconds = SPREAD_SECONDS / 6, SPREAD_SECONDS

    verdict = asyncio.run(run_chaos(options, tmp_path))

    assert verdict.holds, "\n".join([*verdict.lines(), (tmp_path / "log").read_text()])
    assert verdict.pushed + verdict.skipped == JOBS


@pytest.mark.timeout(600)
def test_nothing_is_lost_whatever_fails_around_the_workers_on_sqs(tmp_path: Path) -> None:
    arguments = ["--broker", "sqs", "--jobs", str(SQS_JOBS), "--workers", "2"]
    options = parse([*arguments, "--lease-seconds", "2"])
    options.every_seconds, options.spread_seconds = 0.5, 1.0

    verdict = asyncio.run(run_chaos(options, tmp_path))

    assert verdict.holds, "\n".join([*verdict.lines(), (tmp_path / "log").read_text()])
    assert verdict.pushed == SQS_JOBS


# The judge.


def lines_of(*texts: str) -> list[Line]:
    """Lines written as ``MOMENT WHO WORD REST``."""
    split = [text.split() for text in texts]
    return [Line(float(moment), who, word, tuple(rest)) for moment, who, word, *rest in split]


def judged(
    *texts: str, faults: list[Fault] | None = None, buried: str = "", settles_at_once: bool = True
) -> Verdict:
    errors = [Buried("id", each) for each in buried.split()]
    return judge(lines_of(*texts), faults or [], errors, LEASE, settles_at_once=settles_at_once)


CALL = ("1 producer-0.0 call works-0-1", "2 producer-0.0 pushed works-0-1 id")
RUN = ("3 worker-0.0 begin 0 works-0-1 id 1", "4 worker-0.0 end 0")
AGAIN = ("9 worker-1.0 begin 0 works-0-1 id 1", "10 worker-1.0 end 0")


def test_a_call_that_ran_to_its_end_is_completed() -> None:
    verdict = judged(*CALL, *RUN)

    assert verdict.holds
    assert (verdict.pushed, verdict.completed) == (1, 1)


@pytest.mark.parametrize(
    "end",
    [(), RUN[:1], (RUN[0], "4 worker-0.0 raised 0"), (RUN[0], "4 worker-0.0 cancelled 0")],
    ids=["no run", "no end", "an error", "a cancellation"],
)
def test_an_acknowledged_call_that_never_ran_to_its_end_is_lost(end: tuple[str, ...]) -> None:
    assert judged(*CALL, *end).lost == ["works-0-1"]


def test_a_call_that_raised_need_not_run() -> None:
    assert judged(CALL[0]).holds


def test_a_job_that_may_not_fail_is_wrong_in_the_error_queue() -> None:
    assert judged(*CALL, buried="Fatal").wrong == ["works-0-1 is in the error queue with Fatal"]


def test_only_what_may_expire_is_allowed_to() -> None:
    outlived = "5 worker-0.0 outlived id"

    assert judged(*CALL, outlived).lost == ["works-0-1"]
    assert judged(*(each.replace("works", "expires") for each in CALL), outlived).expired == 1


def test_a_delayed_call_that_runs_too_early_is_found() -> None:
    texts = [each.replace("works", "delayed") for each in (*CALL, *RUN)]
    in_time = [text.replace("3 w", f"{1 + DELAYED_SECONDS} w") for text in texts]
    too_early = [text.replace("3 w", f"{0.8 + DELAYED_SECONDS} w") for text in texts]

    assert judged(*in_time).early == []
    assert judged(*too_early).early == ["delayed-0-1"]


def test_the_last_debounced_call_needs_a_run_that_begins_after_it() -> None:
    texts = [each.replace("works-0-1", "debounced-1") for each in (*CALL, *RUN)]
    late = ("5 producer-0.0 call debounced-1", "6 producer-0.0 skipped debounced-1")
    run = ("7 worker-0.0 begin 1 debounced-1 id2 1", "8 worker-0.0 end 1")

    assert judged(*texts, *late).lost == ["debounced-1: its last call has no run after it"]
    assert judged(*texts, *late, *run).holds


@pytest.mark.parametrize("target", ["worker-0.0", "worker-0", "broker"])
def test_a_second_run_is_explained_by_a_fault_that_hit_the_first(target: str) -> None:
    verdict = judged(*CALL, *RUN, *AGAIN, faults=[Fault("struck", target, 3.5, 3.5)])

    assert verdict.holds
    assert dict(verdict.again) == {"struck": 1}
    assert verdict.back_seconds == {"struck": [5.5]}


@pytest.mark.parametrize(("until", "is_explained"), [(8.9, True), (8.4, False)])
def test_a_second_run_is_explained_when_it_was_the_one_that_came_late(
    until: float, is_explained: bool
) -> None:
    fault = Fault("away", "worker-1.0", 2.5, until)

    assert judged(*CALL, *RUN, *AGAIN, faults=[fault]).holds == is_explained


@pytest.mark.parametrize(
    "fault",
    [
        Fault("struck", "worker-0.1", 3.5, 3.5),
        Fault("struck", "worker-1", 3.5, 3.5),
        Fault("struck", "broker", 1.5, 2.9),
        Fault("struck", "broker", 5.1, 8),
        Fault("worker told to leave", "worker-0.0", 3.5, 8),
    ],
    ids=[
        "another process",
        "another place",
        "too early",
        "after the settlement",
        "it had time to end",
    ],
)
def test_a_second_run_is_not_explained_by_what_did_not_hit_the_first(fault: Fault) -> None:
    verdict = judged(*CALL, *RUN, *AGAIN, faults=[fault])

    assert not verdict.holds
    assert len(verdict.without_cause) == 1


@pytest.mark.parametrize(("moment", "is_explained"), [(2.6, True), (2.4, False)])
def test_a_fault_matters_from_the_pop_of_the_item(moment: float, is_explained: bool) -> None:
    fault = Fault("struck", "worker-0.0", moment, moment)

    verdict = judged(*CALL, "2.7 worker-0.0 popped id 2.5", *RUN, *AGAIN, faults=[fault])

    assert verdict.holds == is_explained


@pytest.mark.parametrize(("moment", "is_explained"), [(4.7, True), (4.9, False), (6.3, False)])
def test_a_fault_matters_until_the_settlement_was_answered(
    moment: float, is_explained: bool
) -> None:
    fault = Fault("struck", "worker-0.0", moment, moment)

    verdict = judged(*CALL, *RUN, "4.8 worker-0.0 settled id 1", *AGAIN, faults=[fault])

    assert verdict.holds == is_explained


def test_a_fault_matters_for_as_long_as_the_settlement_takes() -> None:
    fault = Fault("struck", "worker-0.0", 6.5, 6.5)

    assert judged(*CALL, *RUN, "7 worker-0.0 settled id 1", *AGAIN, faults=[fault]).holds
    assert not judged(*CALL, *RUN, "7 worker-0.0 settled id 2", *AGAIN, faults=[fault]).holds


@pytest.mark.parametrize("settles_at_once", [True, False])
def test_a_fault_that_hit_the_push_explains_a_second_run_where_a_push_may_double(
    settles_at_once: bool,
) -> None:
    fault = Fault("struck", "producer-0", 1.5, 1.5)

    verdict = judged(*CALL, *RUN, *AGAIN, faults=[fault], settles_at_once=settles_at_once)

    assert verdict.holds != settles_at_once


@pytest.mark.parametrize("settles_at_once", [True, False])
def test_what_made_an_attempt_run_twice_explains_that_the_next_one_does(
    settles_at_once: bool,
) -> None:
    first = (RUN[0], "4 worker-0.0 raised 0", AGAIN[0], "10 worker-1.0 raised 0")
    second = ("11 worker-0.0 begin 1 works-0-1 id 2", "12 worker-0.0 end 1")
    third = ("21 worker-1.0 begin 1 works-0-1 id 2", "22 worker-1.0 end 1")
    fault = Fault("struck", "worker-0.0", 3.5, 3.5)

    verdict = judged(
        *CALL, *first, *second, *third, faults=[fault], settles_at_once=settles_at_once
    )

    assert verdict.again["struck"] == (1 if settles_at_once else 2)
    assert verdict.holds != settles_at_once


@pytest.mark.parametrize(("moment", "is_explained"), [(2.5, True), (2.9, False)])
def test_a_fault_that_hit_the_mover_of_an_item_explains_a_second_copy(
    moment: float, is_explained: bool
) -> None:
    moves = ("2.3 worker-2.0 moves id", "2.8 worker-2.0 moved id")
    fault = Fault("struck", "worker-2.0", moment, moment)

    verdict = judged(*CALL, *moves, *RUN, *AGAIN, faults=[fault], settles_at_once=False)

    assert verdict.holds == is_explained


@pytest.mark.parametrize(("moment", "is_explained"), [(8.5, True), (9.5, False)])
def test_a_second_delivery_explains_only_what_began_after_it(
    moment: float, is_explained: bool
) -> None:
    fault = Fault("messages doubled", "id", moment, moment)

    assert judged(*CALL, *RUN, *AGAIN, faults=[fault]).holds == is_explained


@pytest.mark.parametrize("target", ["worker-0.0", "worker-1.0"])
def test_a_second_copy_in_the_error_queue_needs_a_fault_that_hit_the_settlement(
    target: str,
) -> None:
    texts = [each.replace("works", "fails") for each in (*CALL, RUN[0], "4 worker-0.0 raised 0")]
    fault = Fault("struck", target, 4.5, 4.5)

    verdict = judged(*texts, faults=[fault], buried="Fatal Fatal", settles_at_once=False)

    assert verdict.holds == (target == "worker-0.0")
    assert (verdict.buried, verdict.buried_again) == (1, 1)


def test_a_retry_is_no_second_run() -> None:
    first = (RUN[0], "4 worker-0.0 raised 0")
    second = ("5 worker-0.0 begin 1 works-0-1 id 2", "6 worker-0.0 end 1")

    verdict = judged(*CALL, *first, *second)

    assert verdict.holds
    assert not verdict.again


def test_what_a_process_wrote_is_read_by_its_successor(tmp_path: Path) -> None:
    for who in ("worker-0.0", "worker-0.1"):
        ledger = Ledger(tmp_path / "worker-0.ledger", who)
        ledger.write("begin", 7, "key")
        ledger.close()

    lines = list(read_lines(tmp_path))

    assert [(line.who, line.word, line.rest) for line in lines] == [
        ("worker-0.0", "begin", ("7", "key")),
        ("worker-0.1", "begin", ("7", "key")),
    ]
