"""The watchdog: a job that holds the worker's loop is named, with the line at which it does."""

import asyncio
import logging
import threading
from functools import partial
from typing import Any

import pytest
from faces import Face, wait_here
from processes import DEADLINE_SECONDS

from deferrable.aio.worker._watchdog import Watchdog
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_other_watchdog() -> None:
    """The thread of a stopped worker may still have its last line to log."""
    for thread in threading.enumerate():
        if thread.name == "deferrable-watchdog":
            thread.join(DEADLINE_SECONDS)


async def test_a_job_that_holds_the_loop_is_logged_with_name_seconds_and_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    face = Face("awaiting")
    face.record_events()

    async def hold() -> None:
        wait_here(lambda: "has been blocked" in caplog.text, "it was reported")  # the line

    await face.later(face.job(hold, name="hold"))

    async with face.instance.worker() as worker:
        outcome = await anext(worker)
        await wait_until(lambda: "runs again" in caplog.text, "the end was reported")

    report = next(each.getMessage() for each in caplog.records if "blocked" in each.getMessage())
    assert f"by hold (item {outcome.item['id']})" in report
    assert "blocked for 1." in report
    assert "faces.py" in report
    assert "in wait_here: " in report


async def test_it_is_told_by_the_event_overrun_once_the_loop_turns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    face = Face("awaiting")
    face.record_events()

    async def hold() -> None:
        wait_here(lambda: "has been blocked" in caplog.text, "it was reported")

    await face.later(face.job(hold, name="hold"))

    async with face.instance.worker() as worker:
        await anext(worker)

    assert sorted(face.event_names) == ["complete", "overrun", "pop", "push"]


async def test_a_loop_that_turns_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog(lambda task: pytest.fail(str(task)), 0.5)
    watchdog.start()
    for _ in range(100):
        await asyncio.sleep(0)
    watchdog.stop()

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_short_hold_is_reported_with_the_name_of_the_task() -> None:
    told: list[str] = []
    watchdog = Watchdog(
        lambda task: (task.get_name(), "advice", partial(told.append, task.get_name())), 0.01
    )
    watchdog.start()
    asked = threading.Event()

    async def hold() -> None:
        wait_here(lambda: watchdog._turned.is_set() or asked.wait(0.05) or True, "a while")

    while not told:
        await asyncio.create_task(hold(), name="the holder")
    watchdog.stop()

    assert told[0] == "the holder"


async def test_the_advice_fits_the_body_of_the_loop_over_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    face = Face("awaiting")

    async def done() -> None:
        pass

    await face.later(face.job(done, name="done"))

    async with face.instance.worker() as worker:
        async for _ in worker:
            wait_here(lambda: "has been blocked" in caplog.text, "it was reported")
            break

    assert "this is not a job" in caplog.text
    assert "make the job a plain function" not in caplog.text


async def test_the_advice_blames_no_code_of_the_user_for_a_poll_that_loads_its_client(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = Face("awaiting")
    queue = face.backend.queue
    pop = queue._pop_batch

    async def load_and_pop(count: int) -> Any:
        wait_here(lambda: "has been blocked" in caplog.text, "it was reported")
        return await pop(count)

    monkeypatch.setattr(queue, "_pop_batch", load_and_pop)

    async with face.instance.worker():
        await wait_until(lambda: "runs again" in caplog.text, "the end was reported")

    assert "a task of deferrable itself, and not your code" in caplog.text
    assert "this is not a job" not in caplog.text
