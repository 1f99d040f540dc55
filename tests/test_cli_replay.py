"""``deferrable errors replay``: a failed item runs here, and its queue learns nothing."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import call_command, environment, run_command
from processes import DEADLINE_SECONDS
from warm_python import run_python

APP = """
import sys
from contextlib import asynccontextmanager

from deferrable import Deferrable, Middleware, backend, current_attempt

IS_FIXED = False


@asynccontextmanager
async def lifespan():
    yield "a pool"


class Around(Middleware):
    def after_attempt(self, outcome):
        print("told", outcome.status)


class Tenant:
    NAMESPACE = "tenant"

    def produce_metadata(self):
        return "acme"

    def consume_metadata(self, value):
        global tenant
        tenant = value


class Listener:
    def on_error(self, item):
        print("error event")

    def on_complete(self, item):
        print("complete event")


shop = Deferrable(
    backend.from_url(URL).create_backend_for_group(GROUP),
    lifespan=lifespan,
    signing_keys=["a secret of some bytes"],
)
shop.register_metadata_producer_consumer(Tenant())
shop.register_event_consumer(Listener())
shop.register_middleware(Around())


@shop.deferrable(error_classes=[ValueError], max_attempts=1, keep_results_seconds=60)
async def pay(order):
    attempt = current_attempt()
    print("ran", order, attempt.number, attempt.state, tenant, attempt.id, file=sys.stderr)
    if not IS_FIXED:
        raise ValueError(order)
    await attempt.touch(60)
    return order + 1


@shop.deferrable(ttl_seconds=0.01)
def leave(code):
    local = code
    deeper(local)


def deeper(code):
    sys.exit(code)


@shop.deferrable
def renamed(name):
    raise KeyError(name)


def fail():
    pay.options(call_id="pay-1").later(1)
    pay.options(call_id="pay-2").later(2)
    leave.options(call_id="leave-1", ttl_seconds=3600).later(3)
    renamed.options(call_id="renamed-1").later("ada")
    while True:
        try:
            if shop.run_once() is None:
                break
        except SystemExit:
            shop.backend.queue.flush()
            break
"""


class Place:
    def __init__(self, folder: Path, url: str, group: str) -> None:
        self.folder = folder
        text = APP.replace("URL", repr(url)).replace("GROUP", repr(group))
        self.text = text.replace("sys.exit(code)", "raise OSError(code)")
        self.write(self.text)
        done = run_python(
            ["-c", "import app; app.fail()"],
            cwd=folder,
            env=environment({}),
            timeout=DEADLINE_SECONDS,
        )
        assert done.returncode == 0, done.stderr

    def write(self, text: str) -> None:
        (self.folder / "app.py").write_text(text)

    def fix(self) -> None:
        text = self.text.replace("IS_FIXED = False", "IS_FIXED = True")
        self.write(text.replace("raise OSError(code)", "sys.exit(code)"))

    def replay(self, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
        return run_command(
            "errors", "replay", "app:shop", *arguments,
            variables={"COLUMNS": "200"}, folder=self.folder, answer=answer,
        )  # fmt: skip

    def errors(self) -> Any:
        done = call_command(
            "errors", "show", "app:shop", "--all", "--json", variables={}, folder=self.folder
        )
        return json.loads(done.stdout)


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    from redis_server import unique_group

    if request.param == "sqlite":
        return Place(tmp_path, "sqlite:///jobs.db", "shop")
    return Place(tmp_path, request.getfixturevalue("redis_url"), unique_group("replay-"))


def test_failed_item_runs_with_all_it_had_and_stays_as_it_was(place: Place) -> None:
    before = place.errors()

    as_before = place.replay("pay-1")
    place.fix()
    fixed = place.replay("pay-1", "pay-2")

    assert place.errors() == before
    assert as_before.returncode == 1
    assert "failed after" in as_before.stdout
    assert "ValueError: 1" in as_before.stdout
    assert "in pay" in as_before.stdout
    assert as_before.stderr == "ran 1 1 a pool acme pay-1\n"  # no log, no event, no telling
    assert fixed.returncode == 0
    assert "and returned 2" in fixed.stdout
    assert "told" not in fixed.stdout + as_before.stdout
    assert "event" not in fixed.stdout + as_before.stdout


def test_all_are_run_only_after_a_yes_and_counted_by_job_and_error(place: Place) -> None:
    before = place.errors()
    place.fix()

    asked = place.replay("--all")
    done = place.replay("--all", "--yes")
    as_json = json.loads(place.replay("--all", "--yes", "--json", "--type", "OSError").stdout)

    assert (asked.returncode, asked.stdout) == (2, "")
    assert "there is no terminal to ask on; add --yes" in asked.stderr
    assert done.returncode == 1
    assert "2 of 4 failed items passed here" in done.stdout
    assert "app:pay" in done.stdout
    assert "SystemExit: 3" in done.stdout
    assert [as_json[name] for name in ("is_dry", "items", "passed")] == [False, 1, 0]
    assert as_json["replays"][0]["id"] == "leave-1"
    assert place.errors() == before


def test_dry_run_calls_nothing_and_says_what_would_start(place: Place) -> None:
    place.write(
        place.text.replace("def renamed(name)", "def renamed(name, title)").replace(
            "@shop.deferrable(ttl_seconds=0.01)\ndef leave", "def leave"
        )
    )

    done = place.replay("--all", "--dry")

    assert done.returncode == 1
    assert done.stderr == ""
    assert "2 of 4 failed items would start here" in done.stdout
    assert "missing 1 required positional argument: 'title'" in done.stdout
    assert "not a job of this instance" in done.stdout
    assert "No job was run." in done.stdout


def test_debugger_opens_at_the_frame_of_the_job(place: Place) -> None:
    done = place.replay("leave-1", "--pdb", answer="p local, code\nq\n")

    assert "(3, 3)" in done.stdout
    assert "-> deeper(local)" in done.stdout
    assert "standard input, which is no terminal" in done.stderr
    assert place.replay("--all", "--pdb", "--yes").returncode == 2


def test_missing_id_is_an_error(place: Place) -> None:
    done = place.replay("nothing")

    assert (done.returncode, done.stdout) == (1, "")
    assert "no error here has the id nothing" in done.stderr
