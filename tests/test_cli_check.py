"""``deferrable check --against-queue``: what an older producer pushed, and a newer checkout."""

import json
from pathlib import Path

import pytest
from commands import PythonProcess, run_command

FIRST = """
from deferrable import Deferrable, backend

shop = Deferrable(
    backend.from_url("sqlite:///jobs.db").create_backend_for_group("shop"), serializer="json"
)


@shop.deferrable
def ship(order):
    pass


@shop.deferrable
def mail(to, subject):
    raise KeyError(to)


@shop.deferrable
def count(number):
    pass


@shop.deferrable
def gone():
    pass


def push():
    mail.later("ada", "hello")
    assert shop.run_once().status == "errored"
    ship.later(1)
    ship.options(delay_seconds=3600).later(2)
    mail.later("bob", "hello")
    count.later("seven")
    gone.later()
    shop.backend.queue.pop()
"""
SECOND = (
    FIRST.replace("def mail(to, subject):", "def mail(to, subject, body):")
    .replace("@shop.deferrable\ndef gone", "def gone")
    .replace("def count(number)", "def count(number: int)")
)

WITH_METADATA = """
from deferrable import Deferrable, backend

shop = Deferrable(backend.from_url("sqlite:///jobs.db").create_backend_for_group("shop"))


class Tenant:
    pass


class Producer:
    NAMESPACE = "tenant"

    def produce_metadata(self):
        return Tenant()

    def consume_metadata(self, value):
        pass


shop.register_metadata_producer_consumer(Producer())


@shop.deferrable
def job():
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(FIRST)
    with PythonProcess(["-c", "import app; app.push()"], variables={}, folder=tmp_path) as producer:
        assert producer.end() == 0, producer.text
    return tmp_path


def test_what_a_checkout_cannot_run_is_counted_by_reason(folder: Path) -> None:
    (folder / "app.py").write_text(SECOND)

    done = run_command(
        "check", "app:shop", "--against-queue", variables={"COLUMNS": "300"}, folder=folder
    )
    as_json = run_command(
        "check", "app:shop", "--against-queue", "--json", variables={}, folder=folder
    )

    assert done.returncode == as_json.returncode == 1
    assert "2 of 6 items can be run by this checkout" in done.stdout
    problems = {each["job"]: each for each in json.loads(as_json.stdout)["problems"]}
    assert problems.keys() == {"app:mail", "app:count", "app:gone"}
    assert problems["app:mail"]["count"] == 2  # one waits, one is in the error queue
    assert "missing 1 required positional argument: 'body'" in problems["app:mail"]["reason"]
    assert "does not fit its annotation int" in problems["app:count"]["reason"]
    assert "not a job of this instance" in problems["app:gone"]["reason"]


def test_checkout_that_pushed_it_all_can_run_it(folder: Path) -> None:
    done = run_command("check", "app:shop", "--against-queue", variables={}, folder=folder)

    assert (done.returncode, done.stderr) == (0, "")
    assert "6 of 6 items can be run by this checkout" in done.stdout


def test_metadata_that_a_worker_could_not_read_is_found(tmp_path: Path) -> None:
    code = tmp_path / "app.py"
    code.write_text(WITH_METADATA)
    with PythonProcess(["-c", "import app; app.job.later()"], variables={}, folder=tmp_path) as it:
        assert it.end() == 0, it.text
    arguments = ("check", "app:shop", "--against-queue", "--json")
    before = run_command(*arguments, variables={}, folder=tmp_path)
    code.write_text(WITH_METADATA.replace("Tenant", "Customer"))

    after = run_command(*arguments, variables={}, folder=tmp_path)

    assert (before.returncode, after.returncode) == (0, 1)
    assert "Tenant" in json.loads(after.stdout)["problems"][0]["reason"]


def test_what_to_check_is_asked_for_and_sqs_cannot_show_its_items(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FIRST.replace("sqlite:///jobs.db", "sqs://us-east-1"))

    wrong = run_command("check", "app:shop", variables={}, folder=tmp_path)
    sqs = run_command("check", "app:shop", "--against-queue", variables={}, folder=tmp_path)

    assert (wrong.returncode, sqs.returncode) == (2, 1)
    assert "say against what to check: --against-queue" in wrong.stderr
    assert "Error: app:shop: " in sqs.stderr
    assert "SQLite" in sqs.stderr
