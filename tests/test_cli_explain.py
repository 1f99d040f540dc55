"""``deferrable explain``: where a call is and what happens next, from the functions that decide."""

import json
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from commands import as_in_a_process_of_its_own, call_command, environment
from hypothesis import given
from hypothesis import strategies as st
from processes import DEADLINE_SECONDS
from redis_server import unique_group
from warm_python import run_python

from deferrable._foresight import foresee
from deferrable.cli.named import commands_for
from deferrable.lifecycle import RetryLater, after_error, backoff_seconds

APP = """
from deferrable import Deferrable, Retry, backend

shop = Deferrable(backend.from_url(URL).create_backend_for_group(GROUP), keep_results_seconds=60)
local = Deferrable(backend.InMemoryBackendFactory().create_backend_for_group("local"))
far = Deferrable(backend.from_url("sqs://us-east-1").create_backend_for_group("far"))


@shop.deferrable(error_classes=[OSError], max_attempts=3, backoff_jitter=True)
def pay(order):
    if order == "bad":
        raise ValueError("no \\x1b[31m order")
    if order == "late":
        raise Retry(after_seconds=600)
    return order


@shop.deferrable(unique=True)
def alone():
    pass


@shop.deferrable(debounce_seconds=600, debounce_always_delay=True)
def refresh():
    pass


def fill():
    for order in ("good", "bad", "late"):
        pay.options(call_id=order).later(order)
    while shop.run_once():
        pass
    pay.options(call_id="held").later("held")
    shop.backend.queue.pop()
    pay.options(call_id="short", delay_seconds=600, ttl_seconds=700).later("x")
    pay.options(call_id="waiting").later("x")
    alone.options(call_id="alone").later()
    refresh.options(call_id="window").later()
    pay.options(call_id="gone").later("gone")
    shop.call("gone").cancel()
"""
QUIET = {"COLUMNS": "300"}


class Place:
    def __init__(self, folder: Path, url: str, group: str) -> None:
        self.folder = folder
        text = APP.replace("URL", repr(url), 1).replace("GROUP", repr(group))
        (folder / "app.py").write_text(text)
        self.run("app.fill()")

    def run(self, code: str) -> None:
        done = run_python(
            ["-c", f"import app; {code}"],
            cwd=self.folder,
            env=environment({}),
            timeout=DEADLINE_SECONDS,
        )
        assert done.returncode == 0, done.stderr

    def explain(self, call_id: str, path: str = "app:shop") -> "subprocess.CompletedProcess[str]":
        return call_command("explain", path, call_id, variables=QUIET, folder=self.folder)

    def data(self, call_id: str) -> Any:
        done = call_command(
            "explain", "app:shop", call_id, "--json", variables=QUIET, folder=self.folder
        )
        return json.loads(done.stdout)


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(tmp_path, "sqlite:///jobs.db", "shop")
    return Place(tmp_path, request.getfixturevalue("redis_url"), unique_group("explain-"))


def test_each_place_of_a_call_is_named_with_what_follows(place: Place) -> None:
    said = {
        each: place.explain(each).stdout
        for each in ("good", "bad", "late", "held", "short", "waiting", "alone", "window", "gone")
    }

    assert "completed at " in said["good"]
    assert "its result is kept" in said["good"]
    assert "in the error queue since " in said["bad"]
    assert "ValueError: no \\x1b[31m order" in said["bad"]
    assert "deferrable errors requeue app:shop bad" in said["bad"]
    assert "between two attempts" in said["late"]
    assert "attempt 2 of 3 may start in " in said["late"]
    assert "after OSError: the next attempt follows 3 to 6 s later" in said["late"]
    assert "held by " in said["held"]
    assert "attempt 1 of 3 runs. Its worker renews the lease" in said["held"]
    assert "delayed until " in said["short"]
    assert "it must start before " in said["short"]
    assert "attempt 1 of 3 may start now" in said["waiting"]
    assert "after OSError: the next attempt follows 2 to 4 s later" in said["waiting"]
    assert "equal calls are not pushed until it has ended" in said["alone"]
    assert "the job retries no error" in said["alone"]
    assert "equal calls are skipped until then" in said["window"]
    assert ", and will not run" in said["gone"]
    assert "no worker has reported" in said["waiting"]
    assert all("would run it" in said[each] for each in ("bad", "held", "short", "waiting"))


def test_programs_get_the_same_facts(place: Place) -> None:
    waiting, bad = place.data("waiting"), place.data("bad")

    assert (waiting["status"], waiting["job"]) == ("queued", "app:pay")
    assert (waiting["next"]["attempt"], waiting["next"]["max_attempts"]) == (1, 3)
    assert waiting["next"]["retry_seconds"] == [2.0, 4.0]
    assert waiting["workers"] == []
    assert (bad["status"], bad["next"], bad["would_run_here"]) == ("errored", None, True)


def test_failed_item_with_the_id_of_a_waiting_call_is_named_beside_it(place: Place) -> None:
    place.run("app.pay.options(call_id='bad').later('good')")

    said = place.explain("bad").stdout

    assert "in the queue, and no worker holds it" in said
    assert "another item of this id is in the error queue since " in said
    assert "ValueError: no " in said
    assert place.data("bad")["other_error"]["error_type"] == "ValueError"
    assert place.data("waiting")["other_error"] is None


def test_advice_is_a_command_that_can_be_typed(place: Place) -> None:
    place.run("[app.pay.options(call_id=each).later('bad') for each in ('-a', 'of ada')]")
    place.run("[app.shop.run_once() for _ in range(10)]")
    program = click.Group(commands=commands_for(OneName()))

    with as_in_a_process_of_its_own(place.folder):
        arguments = ["explain", "--", "shop", "of ada"]
        named = CliRunner(env=QUIET).invoke(program, arguments, prog_name="manage.py deferrable")

    assert "somebody runs: manage.py deferrable errors requeue shop 'of ada'" in named.stdout
    dashed = call_command("explain", "app:shop", "--", "-a", variables=QUIET, folder=place.folder)
    assert "somebody runs: deferrable errors requeue app:shop -- -a" in dashed.stdout


class OneName:
    word = "QUEUE"

    def known(self) -> list[str]:
        return ["shop"]

    def path_of(self, name: str) -> str:
        return f"app:{name}"


def test_checkout_and_pause_are_part_of_the_answer(place: Place) -> None:
    call_command("pause", "app:shop", "--for", "7200", variables=QUIET, folder=place.folder)
    paused = place.explain("wait")
    code = place.folder / "app.py"
    code.write_text(code.read_text().replace("def pay(order)", "def pay(order, currency)"))
    changed = place.explain("waiting")

    assert "but the queue is paused and goes on in " in paused.stdout
    assert "cannot run it: its arguments no longer fit: pay() missing 1" in changed.stdout
    assert "buries it instead of attempt 1 of 3" in changed.stdout


def test_what_nobody_knows_is_unknown(place: Place) -> None:
    nothing, odd = place.explain("nothing"), place.explain("\x1b]0;x\x07")
    local, empty = place.explain("good", "app:local"), place.explain("")

    assert nothing.returncode == odd.returncode == 1
    assert "unknown: no queue of this instance has it" in nothing.stdout
    assert "\x1b" not in odd.stdout
    assert local.returncode == 2
    assert "app:local keeps its items in memory" in local.stderr
    assert empty.returncode in (1, 2)


@given(
    attempts=st.integers(0, 12),
    most=st.integers(1, 12),
    has_backoff=st.booleans(),
    has_jitter=st.booleans(),
    draw=st.floats(0, 1),
)
def test_foreseen_wait_holds_the_wait_that_is_decided(
    attempts: int, most: int, has_backoff: bool, has_jitter: bool, draw: float
) -> None:
    item = {
        "attempts": attempts, "max_attempts": most,
        "use_exponential_backoff": has_backoff, "backoff_jitter": has_jitter,
    }  # fmt: skip

    foresight = foresee(
        item, 1000.0,
        available_time=None, retries_errors=True, max_delay_seconds=900.0, hides_early=True,
    )  # fmt: skip
    verdict = after_error(
        item, OSError(), is_retriable=True, now=1000.0, draw=lambda: draw,
        max_delay_seconds=900.0, hostname="", hides_early=True,
    )  # fmt: skip

    assert (foresight.attempt, foresight.max_attempts) == (attempts + 1, most)
    if isinstance(verdict, RetryLater):
        assert foresight.retry_seconds is not None
        shortest, longest = foresight.retry_seconds
        assert shortest <= verdict.seconds <= longest
        assert longest == (backoff_seconds(attempts + 1) if has_backoff else 0)
    else:
        assert foresight.retry_seconds is None
        assert foresight.why_not_retried == verdict.reason


def test_item_whose_ttl_ends_before_it_may_start_is_foreseen_to_expire() -> None:
    item = {"ttl_seconds": 10, "item_queued_timestamp": 1000.0, "due_time": 1011.0}
    others = {"retries_errors": False, "max_delay_seconds": 900.0, "hides_early": True}

    late = foresee(item, 1000.0, available_time=None, **others)  # type: ignore[arg-type]
    early = foresee(item | {"due_time": 1009.0}, 1000.0, available_time=None, **others)  # type: ignore[arg-type]

    assert (late.expires, late.start_time, late.expiry_time) == (True, 1011.0, 1010.0)
    assert not early.expires
    assert early.why_not_retried == "the job retries no error"
