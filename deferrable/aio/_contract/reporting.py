"""Which workers poll a queue, by their own reports.

Owns the verbs that keep a worker's report in the queue's store, and show it.

The rules: every report has an end, so a worker that dies is forgotten by itself. A report changes
no item, and consumers do not read it.
"""

from collections.abc import Sequence

from deferrable.aio._contract.checks import Checks
from deferrable.aio._contract.inspecting import FINDERS
from deferrable.errors import Unsupported
from deferrable.worker_reports import WorkerReport

__all__ = ["Reporting"]


class Reporting(Checks):
    """The verbs of a queue that knows its workers. An adapter with `SUPPORTS_WORKERS` has the
    hooks.
    """

    async def _report_worker(self, report: WorkerReport) -> None:
        """See `report_worker`; called only if `SUPPORTS_WORKERS`."""
        raise NotImplementedError

    async def _forget_worker(self, worker_id: str) -> None:
        """See `forget_worker`; called only if `SUPPORTS_WORKERS`."""
        raise NotImplementedError

    async def _find_workers(self) -> Sequence[WorkerReport]:
        """See `find_workers`; called only if `SUPPORTS_WORKERS`."""
        raise NotImplementedError

    async def report_worker(self, report: WorkerReport) -> None:
        """Keep what a worker reports, for `FORGOTTEN_SECONDS`. It replaces its last report.

        Args:
            report: its `seen_time` is set by the store, and its `holder` too.

        Raises:
            Unsupported: this queue does not know its workers.
        """
        self._check_workers()
        await self._report_worker(report)

    async def forget_worker(self, worker_id: str) -> None:
        """Drop the report of a worker, which has ended. It may be gone already.

        Raises:
            Unsupported: this queue does not know its workers.
        """
        self._check_workers()
        await self._forget_worker(worker_id)

    async def find_workers(self) -> list[WorkerReport]:
        """The workers that have reported a short time ago, by host and process.

        A worker reports from its third second on. Consumers of the Python 2 library and `run_once`
        report nothing.

        Raises:
            Unsupported: this queue does not know its workers.
        """
        self._check_workers()
        found = await self._find_workers()
        return sorted(found, key=lambda each: (each.host, each.process_id, each.id))

    def _check_workers(self) -> None:
        if not self.SUPPORTS_WORKERS:
            raise Unsupported(
                f"{self!r} does not know its workers; {FINDERS} do (SUPPORTS_WORKERS says so)"
            )
