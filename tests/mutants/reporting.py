"""Bugs of the reports of workers."""

from collections.abc import Sequence

from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.backend.memory._store import Now, Reports
from deferrable.worker_reports import WorkerReport
from mutants.planting import mutant


@mutant("a_queue_that_does_not_know_its_workers_says_so")
class ShowsWorkersThoughItSaysThatItCannot(InMemoryQueue):
    SUPPORTS_WORKERS = False

    def _check_workers(self) -> None:
        pass


@mutant(
    "what_a_worker_reports_is_seen_by_others",
    "a_silent_worker_is_forgotten",
    "a_worker_that_leaves_is_forgotten_at_once",
)
class ShowsItsOwnWorkersOnly(InMemoryQueue):
    own: frozenset[str] = frozenset()

    async def _report_worker(self, report: WorkerReport) -> None:
        self.own |= {report.id}
        await super()._report_worker(report)

    async def _find_workers(self) -> Sequence[WorkerReport]:
        return [each for each in await super()._find_workers() if each.id in self.own]


@mutant("a_report_replaces_the_one_before")
class KeepsTheFirstReport(InMemoryQueue):
    async def _report_worker(self, report: WorkerReport) -> None:
        if report.id not in {each.id for each in await self._find_workers()}:
            await super()._report_worker(report)


class _Endless(Reports):
    def _forget_old(self, now: Now) -> None:
        pass


@mutant("a_silent_worker_is_forgotten")
class NeverForgetsAWorker(InMemoryQueue):
    async def _report_worker(self, report: WorkerReport) -> None:
        if not isinstance(self.store.reports, _Endless):
            self.store.reports = _Endless()
        await super()._report_worker(report)


@mutant("a_worker_that_leaves_is_forgotten_at_once")
class KeepsAWorkerThatHasLeft(InMemoryQueue):
    async def _forget_worker(self, worker_id: str) -> None:
        pass


@mutant("a_report_is_of_one_queue")
class SharesReports(InMemoryQueue):
    async def _report_worker(self, report: WorkerReport) -> None:
        for store in (self._group.main, self._group.errors):
            store.reports.keep(report, self._catch_up())


@mutant("a_report_changes_no_item")
class TakesAnItemForAReport(InMemoryQueue):
    async def _report_worker(self, report: WorkerReport) -> None:
        await self._pop_batch(1)
        await super()._report_worker(report)
