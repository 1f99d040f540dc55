"""``deferrable enqueue``: a call from the command line, typed by the annotations of its job."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from commands import call_command

APP = """
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from deferrable import Deferrable, backend

if TYPE_CHECKING:
    from elsewhere import Nothing

factory = backend.from_url("sqlite:///jobs.db")
shop = Deferrable(factory.create_backend_for_group("shop"), serializer="json")
local = Deferrable(backend.InMemoryBackendFactory().create_backend_for_group("local"))


@shop.deferrable
def pay(order: int, to: str, *, on: date = date.min, price: Decimal = Decimal(0)):
    pass


@shop.deferrable
def anything(*values, **others):
    pass


@shop.deferrable(unique=True)
def alone(name: str | None):
    pass


@shop.deferrable(debounce_seconds=60, debounce_always_delay=True)
def refresh(page: Path):
    pass


mails = Deferrable(factory.create_backend_for_group("mails"))


@mails.deferrable
def unread(value: "Nothing"):
    pass
"""
SHOP = {"DEFERRABLE_APP": "app:shop", "COLUMNS": "200"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def enqueue(folder: Path, *arguments: str, path: str = "app:shop") -> Any:
    done = call_command("enqueue", "--json", path, *arguments, variables=SHOP, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def call_of(folder: Path, call_id: str) -> Any:
    done = call_command("items", "show", call_id, "--json", variables=SHOP, folder=folder)
    return json.loads(done.stdout)[0]["call"]


def refusal(folder: Path, *arguments: str) -> str:
    done = call_command("enqueue", *arguments, variables=SHOP, folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def test_words_become_what_the_annotations_say(folder: Path) -> None:
    kwargs = '{"on": "2026-11-28", "price": "9.90"}'

    pushed = enqueue(folder, "app:pay", "17", "42", "--kwargs", kwargs)

    assert (pushed["job"], pushed["status"]) == ("app:pay", "pushed")
    assert call_of(folder, pushed["id"]) == {
        "args": ["17", "'42'"],
        "kwargs": {"on": "datetime.date(2026, 11, 28)", "price": "Decimal('9.90')"},
    }


def test_words_without_annotations_are_json_or_text(folder: Path) -> None:
    words = ["1", "1.5", "true", "null", '{"a": [1]}', '"1"', "1e5x", "NaN", "12e4567", "", "[1"]

    pushed = enqueue(folder, "anything", *words, "--", "-7")

    assert call_of(folder, pushed["id"])["args"] == [
        "1", "1.5", "True", "None", "{'a': [1]}", "'1'", "'1e5x'", "'NaN'", "'12e4567'", "''",
        "'[1'", "-7",
    ]  # fmt: skip


def test_unreadable_annotations_leave_plain_json(folder: Path) -> None:
    assert enqueue(folder, "unread", "[1]", path="app:mails")["status"] == "pushed"


def test_statuses_are_those_of_the_receipt(folder: Path) -> None:
    first, second = enqueue(folder, "alone", "null"), enqueue(folder, "alone", "null")
    waits = enqueue(folder, "refresh", "/a")
    skipped = enqueue(folder, "refresh", "/a")
    delayed = call_command(
        "enqueue", "app:pay", "1", "ada", "--delay-seconds", "600", variables=SHOP, folder=folder
    )

    assert (second["status"], second["serves_id"]) == ("duplicate", first["id"])
    assert (waits["status"], skipped["status"]) == ("delayed", "skipped")
    assert skipped["serves_id"] == waits["id"]
    assert delayed.stdout.startswith("app:pay: delayed as ")
    assert delayed.stdout.endswith(", for 10 min\n")


def test_options_of_the_call_are_those_of_the_job(folder: Path) -> None:
    options = ["-o", "call_id=order-17", "-o", "ttl_seconds=60", "-o", "max_attempts=2"]

    pushed = enqueue(folder, "pay", "1", "ada", *options)

    assert pushed["id"] == "order-17"
    shown = call_command("items", "show", "order-17", "--json", variables=SHOP, folder=folder)
    item = json.loads(shown.stdout)[0]["item"]
    assert (item["ttl_seconds"], item["max_attempts"]) == (60, 2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["pay", "x", "ada"], "the argument 'order' of app:pay does not fit its annotation int"),
        (["pay", "1", "ada", "--kwargs", "[]"], "--kwargs takes a JSON object"),
        (["pay", "1", "ada", "--kwargs", "{"], "--kwargs is not JSON"),
        (["pay", "1", "ada", "-o", "delay"], "--option takes NAME=VALUE, got 'delay'"),
        (["pay", "1", "ada", "-o", "dely=1"], "there is no option 'dely'"),
        (["payy", "1"], "the instance has no job 'payy', but pay;"),
        (["no.such:job"], "the instance has no job 'no.such:job'"),
        (["app:local", "x"], "app:local keeps its items in memory"),
        (["pay", "-7", "ada"], "-7 is no option; write -- before arguments that begin with"),
    ],
)
def test_wrong_calls_are_refused_and_nothing_is_pushed(
    folder: Path, arguments: list[str], text: str
) -> None:
    assert text in refusal(folder, *arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["pay", "1"], "missing 1 required positional argument: 'to'"),
        (["pay", "1", "ada", "-o", "max_attempts=0"], "max_attempts"),
    ],
)
def test_refusals_of_later_are_one_line(folder: Path, arguments: list[str], text: str) -> None:
    done = call_command("enqueue", *arguments, variables=SHOP, folder=folder)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: app:shop: ")
    assert text in done.stderr
    with sqlite3.connect(folder / "jobs.db") as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'items'").fetchall()
        count = database.execute("SELECT count(*) FROM items").fetchone()[0] if tables else 0
    assert count == 0


def test_a_job_whose_module_lacks_a_package_is_not_called_missing(folder: Path) -> None:
    (folder / "later_jobs.py").write_text("import no_such_package\n")

    done = call_command("enqueue", "later_jobs:send", variables=SHOP, folder=folder)

    assert done.returncode == 1
    assert "importing later_jobs for the job 'later_jobs:send' raised" in done.stderr
    assert "no_such_package" in done.stderr
