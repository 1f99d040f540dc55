"""The promises about the reports of workers.

Owns the tests of `report_worker`, `forget_worker` and `find_workers`. All queues without them
refuse in the same way.
"""

from dataclasses import replace

import pytest

from deferrable.aio.queue import Queue
from deferrable.errors import Unsupported
from deferrable.testing.clock import MovingClock
from deferrable.testing.conformance._suite import Items, Suite, take
from deferrable.worker_reports import FORGOTTEN_SECONDS, WorkerReport

__all__ = ["Reporting"]

_REPORT = WorkerReport("one", "a-host", 7, 100, 3, {"app:resize": 2, "app:send": 1}, 5.5)


class Reporting(Suite):
    async def test_a_queue_that_does_not_know_its_workers_says_so(self, queue: Queue) -> None:
        if queue.SUPPORTS_WORKERS:
            assert await queue.find_workers() == []
            return

        with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_WORKERS"):
            await queue.find_workers()
        with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_WORKERS"):
            await queue.report_worker(_REPORT)
        with pytest.raises(Unsupported, match=r"SQLite.*SUPPORTS_WORKERS"):
            await queue.forget_worker("one")

    async def test_what_a_worker_reports_is_seen_by_others(
        self, queue: Queue, second: Queue, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_WORKERS:
            return

        await queue.report_worker(_REPORT)
        await queue.report_worker(replace(_REPORT, id="other", host="B", is_stopping=True))

        other, one = await second.find_workers()
        assert replace(one, seen_time=0.0, holder=None) == _REPORT
        assert one.seen_time == pytest.approx(clock.time(), abs=2)
        assert (other.id, other.host, other.is_stopping) == ("other", "B", True)

    async def test_a_report_replaces_the_one_before(self, queue: Queue, clock: MovingClock) -> None:
        if not queue.SUPPORTS_WORKERS:
            return
        await queue.report_worker(_REPORT)
        await self.pass_time(clock, FORGOTTEN_SECONDS / 2)

        await queue.report_worker(replace(_REPORT, running=0, jobs={}))
        await self.pass_time(clock, FORGOTTEN_SECONDS / 2 + 1)

        (report,) = await queue.find_workers()
        assert (report.running, dict(report.jobs)) == (0, {})
        assert report.seen_time == pytest.approx(clock.time() - FORGOTTEN_SECONDS / 2 - 1, abs=2)

    async def test_a_silent_worker_is_forgotten(
        self, queue: Queue, second: Queue, clock: MovingClock
    ) -> None:
        if not queue.SUPPORTS_WORKERS:
            return
        await queue.report_worker(_REPORT)
        await self.pass_time(clock, FORGOTTEN_SECONDS + 1)
        await second.report_worker(replace(_REPORT, id="other"))

        assert [each.id for each in await queue.find_workers()] == ["other"]

    async def test_a_worker_that_leaves_is_forgotten_at_once(
        self, queue: Queue, second: Queue
    ) -> None:
        if not queue.SUPPORTS_WORKERS:
            return
        await queue.report_worker(_REPORT)
        await queue.report_worker(replace(_REPORT, id="other"))

        await queue.forget_worker("one")
        await queue.forget_worker("one")
        await queue.forget_worker("unknown")

        assert [each.id for each in await second.find_workers()] == ["other"]

    async def test_a_report_is_of_one_queue(self, queue: Queue, other_queue: Queue) -> None:
        if not queue.SUPPORTS_WORKERS or not other_queue.SUPPORTS_WORKERS:
            return

        await queue.report_worker(_REPORT)

        assert await other_queue.find_workers() == []

    async def test_a_report_changes_no_item(self, queue: Queue, items: Items) -> None:
        if not queue.SUPPORTS_WORKERS:
            return
        await queue.push_each(items(2))
        before = dict(await queue.stats())

        await queue.report_worker(_REPORT)

        after = dict(await queue.stats())
        for each in (before, after):
            each.pop("oldest_age_seconds", None)
        assert before == after
        assert [item["number"] for _, item in await take(queue, 2)] == [1, 2]
