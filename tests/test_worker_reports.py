"""What workers report of themselves: when, to whom, and until when it is shown."""

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from cli_place import STATS, Place, worker
from commands import call_command
from dashboard_place import text_of, visit
from faces import Face

from deferrable import BackendUnavailable, WorkerReport
from deferrable.aio.worker._reporting import FIRST_REPORT_SECONDS
from deferrable.testing import wait_until
from deferrable.worker_reports import FORGOTTEN_SECONDS, REPORT_SECONDS, report_in
from deferrable.worker_reports import text_of as kept_text

pytestmark = pytest.mark.anyio


async def reports_of(face: Face) -> list[WorkerReport]:
    return await face.broker.queue.find_workers()


async def until_reported(face: Face, seconds: float, **wanted: Any) -> WorkerReport:
    """Move the clock, until there is a report with these values."""
    found: list[WorkerReport] = []

    async def is_there() -> bool:
        found[:] = [
            each
            for each in await reports_of(face)
            if all(getattr(each, name) == value for name, value in wanted.items())
        ]
        return bool(found)

    face.clock.advance(seconds)
    await wait_until(is_there, f"a report with {wanted}")
    return found[0]


async def test_a_worker_reports_its_host_process_and_slots_while_it_holds_nothing() -> None:
    face = Face("awaiting")
    start_time = face.clock.time()

    async with face.instance.worker(concurrency=7):
        report = await until_reported(face, FIRST_REPORT_SECONDS)

    assert (report.host, report.process_id) == (socket.gethostname(), os.getpid())
    assert (report.slots, report.running, dict(report.jobs)) == (7, 0, {})
    assert report.start_time == pytest.approx(start_time, abs=1)
    assert not report.is_stopping


async def test_a_worker_that_has_left_is_not_shown_any_more() -> None:
    face = Face("awaiting")
    async with face.instance.worker():
        await until_reported(face, FIRST_REPORT_SECONDS)

    assert await reports_of(face) == []


async def test_a_worker_with_report_false_is_not_shown() -> None:
    face = Face("awaiting")
    quiet = face.instance.worker(3, report=False)

    async with quiet, face.instance.worker(7):
        await until_reported(face, FIRST_REPORT_SECONDS, slots=7)
        found = await reports_of(face)

    assert [each.slots for each in found] == [7]


async def test_a_worker_of_a_moment_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    face = Face("awaiting")
    await face.later(face.job(lambda: None, name="work"))

    seen: list[str] = []
    monkeypatch.setattr(type(face.broker.queue), "report_worker", seen.append)
    await face.instance.worker().run(until_empty=True)

    assert seen == []


async def test_a_report_counts_the_running_jobs_by_name_until_the_last_has_ended() -> None:
    face, go_on = Face("awaiting"), asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    long, longer = face.job(wait, name="long"), face.job(wait, name="longer")
    for job in (long, long, longer):
        await face.later(job)
    running = face.instance.worker(grace_seconds=600)

    async with running:
        report = await until_reported(face, FIRST_REPORT_SECONDS, running=3)
        assert dict(report.jobs) == {"long": 2, "longer": 1}
        running.stop()
        await until_reported(face, REPORT_SECONDS, running=3, is_stopping=True)
        go_on.set()


async def test_a_store_that_refuses_reports_changes_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = Face("awaiting")
    tries: list[str] = []

    async def refuse(report: WorkerReport) -> None:
        tries.append(report.id)
        raise BackendUnavailable("it is full")

    monkeypatch.setattr(face.broker.queue, "_report_worker", refuse)
    async with face.instance.worker() as running:
        for count in (1, 2):
            face.clock.advance(REPORT_SECONDS)
            await wait_until(lambda count=count: len(tries) >= count, "it was tried")
        await face.later(face.job(lambda: 1, name="work"))
        outcome = await anext(running)

    assert outcome.status == "completed"
    assert len(set(tries)) == 1


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"host": 5, "process_id": "x", "slots": None, "running": [], "jobs": [], "holder": {}},
        {"jobs": {"job": "x", "other": None}, "start_time": "soon", "is_stopping": "yes"},
        {"slots": 1e300, "running": -1, "process_id": True, "jobs": {"": 1}},
    ],
)
def test_whatever_is_kept_as_a_report_can_be_shown(kept: dict[str, Any]) -> None:
    report = report_in("id", json.dumps(kept), 5.0)

    assert report is not None
    assert (report.id, report.seen_time, report.is_stopping) == ("id", 5.0, False)


def test_a_report_is_read_as_it_was_written() -> None:
    report = WorkerReport("id", "host", 1, 2, 3, {"job": 3}, 4.5, 9.0, True, "holder")

    assert report_in("id", kept_text(report), 9.0) == report
    assert report_in("id", "no JSON", 9.0) is None


def test_a_report_is_small_whatever_the_names_are() -> None:
    jobs = {f"{number:04}" * 1000: 1 for number in range(100)}

    assert len(kept_text(WorkerReport("id", "h" * 10_000, 1, 1, 100, jobs))) < 3000


# A worker of its own process, in Redis.


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Any:
    made = Place(redis_url, tmp_path)
    yield made
    made.close()


def test_the_command_shows_workers_of_all_processes_and_their_keys_have_an_end(
    place: Place,
) -> None:
    name = f"queue.deferrable_{place.group}.reports"
    started = place.path("started")
    place.defer("wait_forever", started)
    with worker(place, STATS, "--processes", "2", "--grace", "0") as command:
        command.wait_until(lambda: place.client.hlen(name) == 2, "both have reported")

        shown = json.loads(
            call_command("workers", STATS, "--json", variables=place.variables).stdout
        )
        text = call_command("workers", STATS, variables=place.variables).stdout

        assert {each["host"] for each in shown} == {socket.gethostname()}
        assert len({each["process_id"] for each in shown}) == 2
        assert {each["instance"] for each in shown} == {STATS}
        assert socket.gethostname() in text
        for key in (name, f"{name}.times"):
            assert 0 < place.client.ttl(key) <= FORGOTTEN_SECONDS  # type: ignore[operator]


def test_the_command_says_so_if_there_is_none(place: Place) -> None:
    done = call_command("workers", STATS, variables=place.variables)

    assert (done.returncode, done.stdout) == (
        0,
        "no worker has reported within the last 35 seconds; one reports from its third second on\n",
    )


# The dashboard.


async def test_the_overview_shows_a_worker_that_holds_nothing() -> None:
    face = Face("awaiting")
    report = WorkerReport(
        "id", "host-<b>7", 4242, 50, 2, {"<i>resize": 2}, face.clock.time() - 7200
    )
    await face.broker.queue.report_worker(report)

    async with visit({"shop": face.instance}) as visitor:
        page = await visitor.see("/")
        seen = text_of(page)
        assert "host-<b>7" in seen
        assert "host-<b>7" not in page
        assert "<i>resize \u00d7 2" in seen
        assert "4242" in seen
    face.clock.advance(FORGOTTEN_SECONDS + 1)
    async with visit({"shop": face.instance}) as visitor:
        assert "host-" not in await visitor.see("/")
