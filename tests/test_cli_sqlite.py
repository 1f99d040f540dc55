"""The command line on a SQLite file: real processes that share one file, in one directory."""

import json
import signal
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import Command, PythonProcess, call_command, run_command

APP = """
import asyncio
import os
import sys
from pathlib import Path

from deferrable import Deferrable, backend

shop = Deferrable(backend.from_url(wait_time=1).create_backend_for_group("shop"))


@shop.deferrable
def ship(order):
    with open("shipped", "a") as file:  # a short line at the end: never mixed with another's
        file.write(f"{order}\\n")


@shop.deferrable
def refuse(order):
    if not Path("fixed").exists():
        raise KeyError(order)


@shop.deferrable
async def hold(order):
    Path("held").touch()
    while not Path("go").exists():
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    job, first, count, delay_seconds = sys.argv[1:]
    orders = range(int(first), int(first) + int(count))
    later = globals()[job].options(delay_seconds=int(delay_seconds)).later
    for order in orders:
        later(order)
"""
UP = "running (process"


class Shop:
    """A directory with an application, and its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {"DEFERRABLE_URL": "sqlite:///jobs.db", "COLUMNS": "120"}
        (folder / "shop.py").write_text(APP)

    def push(
        self, job: str, first: int = 1, count: int = 1, delay_seconds: int = 0
    ) -> PythonProcess:
        arguments = ["shop.py", job, str(first), str(count), str(delay_seconds)]
        return PythonProcess(arguments, variables=self.variables, folder=self.folder)

    def have_pushed(self, job: str, **options: int) -> None:
        with self.push(job, **options) as producer:
            assert producer.end() == 0, producer.text

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in this process; `run_command` would start one for it."""
        return call_command(*arguments, variables=self.variables, folder=self.folder)

    def worker(self, *arguments: str) -> Command:
        return Command(
            "worker", "shop:shop", *arguments, variables=self.variables, folder=self.folder
        )

    def work_off(self, text: str, count: int = 1) -> None:
        """Run a worker until its log has `text` so many times."""
        with self.worker() as worker:
            worker.wait_for(text, count)
            worker.send(signal.SIGTERM)
            assert worker.end() == 0

    def stats(self) -> dict[str, Any]:
        done = self.run("stats", "shop:shop", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        (found,) = json.loads(done.stdout)
        return {name: found[name] for name in ("available", "in_flight", "delayed", "errors")}

    def shipped(self) -> list[int]:
        path = self.folder / "shipped"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def errors(self) -> list[dict[str, Any]]:
        done = self.run("errors", "list", "shop:shop", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_stats_count_what_other_processes_have_pushed(shop: Shop) -> None:
    shop.have_pushed("ship", count=3)
    shop.have_pushed("ship", delay_seconds=3600)

    assert shop.stats() == {"available": 3, "in_flight": 0, "delayed": 1, "errors": 0}
    table = shop.run("stats", "shop:shop").stdout.splitlines()
    assert table[0].split() == [
        "instance",
        "available",
        "in",
        "flight",
        "delayed",
        "errors",
        "oldest",
    ]
    assert table[-1].split()[:5] == ["shop:shop", "3", "0", "1", "0"]
    assert table[-1].split()[5] != "-"


def test_stats_show_what_a_worker_holds(shop: Shop) -> None:
    shop.have_pushed("hold")

    with shop.worker() as worker:
        worker.wait_until((shop.folder / "held").exists, "the job has begun")
        counts = shop.stats()
        (shop.folder / "go").touch()
        worker.wait_for("shop:hold completed")
        worker.send(signal.SIGTERM)
        assert worker.end() == 0

    assert counts == {"available": 0, "in_flight": 1, "delayed": 0, "errors": 0}
    assert set(shop.stats().values()) == {0}


def test_errors_are_listed_shown_requeued_and_discarded(shop: Shop) -> None:
    shop.have_pushed("refuse", count=2)
    shop.work_off("failed for good", 2)
    first, second = shop.errors()

    shown = shop.run("errors", "show", "shop:shop", first["id"])
    discarded = shop.run("errors", "discard", "shop:shop", second["id"], "--yes")
    requeued = shop.run("errors", "requeue", "shop:shop", first["id"])
    (shop.folder / "fixed").touch()
    shop.work_off("shop:refuse completed")

    assert shown.returncode == discarded.returncode == requeued.returncode == 0
    assert "raise KeyError(order)" in shown.stdout
    assert shop.errors() == []
    assert set(shop.stats().values()) == {0}


def test_workers_and_producers_of_many_processes_share_the_file(shop: Shop) -> None:
    with shop.worker("--processes", "2") as workers:
        workers.wait_for(UP, 2)
        producers = [shop.push("ship", first=first, count=100) for first in (0, 100, 200)]
        for producer in producers:
            with producer:
                assert producer.end() == 0, producer.text
        workers.wait_for("shop:ship completed", 300)
        workers.send(signal.SIGTERM)
        assert workers.end() == 0

    assert "locked" not in workers.text
    assert Counter(shop.shipped()) == Counter(range(300))
    assert set(shop.stats().values()) == {0}


def test_item_of_a_killed_worker_runs_in_the_next_one(shop: Shop) -> None:
    shop.variables["DEFERRABLE_URL"] += "?visibility_timeout=1"
    shop.have_pushed("hold")
    with shop.worker() as worker:
        worker.wait_until((shop.folder / "held").exists, "the job has begun")
        worker.send(signal.SIGKILL)
        assert worker.end() == -signal.SIGKILL

    (shop.folder / "go").touch()
    shop.work_off("shop:hold completed in")

    assert set(shop.stats().values()) == {0}


def test_item_of_a_stopped_worker_is_given_back(shop: Shop) -> None:
    shop.have_pushed("hold")

    with shop.worker("--grace", "0") as worker:
        worker.wait_until((shop.folder / "held").exists, "the job has begun")
        worker.send(signal.SIGTERM)
        assert worker.end() == 0

    assert shop.stats() == {"available": 1, "in_flight": 0, "delayed": 0, "errors": 0}


def test_commands_leave_nothing_beside_the_file(shop: Shop) -> None:
    shop.have_pushed("ship")
    shop.work_off("shop:ship completed")
    done = run_command("stats", "shop:shop", variables=shop.variables, folder=shop.folder)
    assert done.returncode == 0

    names = {path.name for path in shop.folder.iterdir()} - {"__pycache__"}
    assert names == {"jobs.db", "shipped", "shop.py"}


# What cannot be used.


def of_a_newer_version(folder: Path) -> None:
    Shop(folder).stats()
    connection = sqlite3.connect(folder / "jobs.db")
    connection.execute("UPDATE deferrable_meta SET value = '999' WHERE name = 'version'")
    connection.commit()
    connection.close()


UNUSABLE = {
    "no directory": ("sqlite:///missing/jobs.db", lambda folder: None, "does not exist; create it"),
    "a directory": ("sqlite:////", lambda folder: None, "three slashes"),
    "no database": ("sqlite:///shop.py", lambda folder: None, "is not a SQLite database"),
    "newer": ("sqlite:///jobs.db", of_a_newer_version, "upgrade deferrable here"),
}


@pytest.mark.parametrize("command", [("stats",), ("errors", "list")], ids=" ".join)
@pytest.mark.parametrize(("url", "prepare", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_file_that_cannot_be_used_is_one_line_with_the_reason(
    shop: Shop, command: tuple[str, ...], url: str, prepare: Any, reason: str
) -> None:
    prepare(shop.folder)
    shop.variables["DEFERRABLE_URL"] = url

    done = shop.run(*command, "shop:shop")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


def test_worker_goes_on_once_its_directory_is_there(shop: Shop) -> None:
    shop.variables["DEFERRABLE_URL"] = "sqlite:///later/jobs.db"

    with shop.worker() as worker:
        worker.wait_for("cannot be polled, the worker retries: ")
        (shop.folder / "later").mkdir()
        shop.have_pushed("ship")
        worker.wait_for("shop:ship completed")
        worker.send(signal.SIGTERM)
        assert worker.end() == 0

    assert worker.text.count("cannot be polled") == 1
