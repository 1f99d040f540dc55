"""Jobs that run twice on purpose, to find those that may not."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import PythonProcess, run_command

import deferrable
import deferrable.aio
from deferrable.aio._engine.rehearsing import Rehearsal
from deferrable.backend import InMemoryBackendFactory
from deferrable.testing import deferrals_of

ran: list[Any] = []
shop = deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group("rehearsed"))
async_shop = deferrable.aio.Deferrable(
    deferrable.aio.backend.InMemoryBackendFactory().create_backend_for_group("rehearsed")
)


@shop.deferrable
def take(orders: list[int]) -> int:
    ran.append(orders.pop())
    return len(orders)


@shop.deferrable
def count() -> int:
    ran.append("count")
    return len(ran)


@shop.deferrable
def once(path: str) -> None:
    Path(path).mkdir()


@shop.deferrable
def fail() -> None:
    ran.append("fail")
    raise OSError("no")


@async_shop.deferrable
async def count_async() -> int:
    await asyncio.sleep(0)
    ran.append("count")
    return len(ran)


@async_shop.deferrable
async def stopped() -> str:
    ran.append("stopped")
    if len(ran) == 2:
        raise asyncio.CancelledError
    return "done"


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def test_second_run_gets_arguments_that_are_decoded_once_more() -> None:
    with deferrals_of(shop) as calls:
        take.later([1, 2])

        assert calls.run_twice() == []

        assert ran == [2, 2]
        assert [each.status for each in calls.outcomes] == ["completed"]


def test_result_that_differs_is_reported_and_the_first_one_counts() -> None:
    with deferrals_of(shop) as calls:
        count.later()

        (report,) = calls.run_twice()

        assert (report.first, report.second, report.error) == (1, 2, None)
        assert str(report).endswith("returned something else")
        assert calls.outcomes[0].result == 1


def test_second_run_that_raises_is_reported_and_the_call_has_completed(tmp_path: Path) -> None:
    with deferrals_of(shop) as calls:
        once.later(str(tmp_path / "made"))

        (report,) = calls.run_twice()

        assert isinstance(report.error, FileExistsError)
        assert "raised FileExistsError" in str(report)
        assert [each.status for each in calls.outcomes] == ["completed"]


def test_job_that_fails_does_not_run_twice() -> None:
    with deferrals_of(shop) as calls:
        fail.later()

        assert calls.run_twice() == []

        assert ran == ["fail"]


def test_traceback_of_a_job_that_fails_begins_with_it() -> None:
    with deferrals_of(shop) as calls:
        fail.later()
        calls.run_twice()
        (entry,) = shop.errors()

        assert entry.error["traceback"].splitlines()[1].endswith(", in fail")


def test_jobs_run_once_again_afterwards() -> None:
    registry = shop._core.registry
    with deferrals_of(shop) as calls:
        calls.run_twice()
        count.later()
        calls.run_all()

    assert ran == ["count"]
    assert shop._core.registry is registry


@pytest.mark.anyio
async def test_async_jobs_run_twice() -> None:
    with deferrals_of(async_shop) as calls:
        await count_async.later_async()

        (report,) = await calls.run_twice_async()

        assert (report.first, report.second) == (1, 2)


@pytest.mark.anyio
async def test_stop_during_the_second_run_leaves_the_call_completed() -> None:
    with deferrals_of(async_shop) as calls:
        await stopped.later_async()

        assert await calls.run_twice_async() == []

        assert [each.status for each in calls.outcomes] == ["completed"]


def test_values_that_cannot_be_compared_differ() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("no")

        __hash__ = None  # type: ignore[assignment]

    rehearsal = Rehearsal(1, ran.append)
    with deferrals_of(shop):
        call: Any = type("Call", (), {"job": count})()
        rehearsal.note_value(call, {}, Odd(), Odd())

    assert rehearsal.different == 1
    assert str(rehearsal).startswith("1 job ran twice; 0 failed")


def test_share_of_the_jobs_is_drawn() -> None:
    numbers = iter([0.0, 0.009, 0.01, 0.5])
    rehearsal = Rehearsal(0.01, chance=lambda: next(numbers))

    assert [rehearsal.is_chosen() for _ in range(4)] == [True, True, False, False]


APP = """
from pathlib import Path

from deferrable import Deferrable, backend

shop = Deferrable(backend.from_url("sqlite:///jobs.db").create_backend_for_group("shop"))


@shop.deferrable
def mark(path):
    Path(path).mkdir()


@shop.deferrable
async def count():
    return 1
"""


def run_app(folder: Path, share: str) -> "subprocess.CompletedProcess[str]":
    (folder / "app.py").write_text(APP)
    arguments = ["worker", "app:shop", "--burst", "--rehearse-duplicates", share]
    return run_command(*arguments, variables={"COLUMNS": "200"}, folder=folder)


def test_worker_of_the_command_line_rehearses(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    pushing = ["-c", "import app; app.mark.later('marked'); app.count.later()"]
    with PythonProcess(pushing, variables={}, folder=tmp_path) as producer:
        assert producer.end() == 0, producer.text

    done = run_app(tmp_path, "100%")

    assert done.returncode == 0, done.stderr
    log = done.stdout + done.stderr
    assert "rehearsal: the second run of app:mark (item " in log
    assert "raised FileExistsError" in log
    assert "2 jobs ran twice; 1 failed in their second run, 0 returned something else" in log


@pytest.mark.parametrize("share", ["0", "2", "101%", "some"])
def test_share_that_is_none_is_refused(tmp_path: Path, share: str) -> None:
    done = run_app(tmp_path, share)

    assert done.returncode == 2
    assert f"such as 1% or 0.01; got '{share}'" in done.stderr
