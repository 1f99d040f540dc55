"""The reports of a Dockets queue's workers.

Owns their two keys: a hash of the reports, and when each was made. Consumers of the Python 2
library know neither. Both end by themselves when nobody reports any more.
"""

from typing import Final

from deferrable.aio.backend._redis.link import script
from deferrable.aio.backend.dockets._commands import Commands
from deferrable.aio.clock import Clock
from deferrable.worker_reports import FORGOTTEN_SECONDS, WorkerReport, report_in, text_of

__all__ = ["Reports"]

_MOST_SHOWN: Final = 1000


class Reports:
    """Keeps and shows the reports of one queue's workers.

    Args:
        clock: the machine's, or an injected one.
        is_injected: whether the queue follows that clock, and not the server's.
    """

    def __init__(self, commands: Commands, clock: Clock, *, is_injected: bool) -> None:
        self._commands = commands
        self._clock = clock
        self._is_injected = is_injected

    @property
    def _keys(self) -> tuple[str, str]:
        return self._commands.keys.reports, self._commands.keys.report_times

    def _now(self) -> str:
        return repr(self._clock.time()) if self._is_injected else ""

    async def keep(self, report: WorkerReport) -> None:
        args = (report.id, text_of(report), self._now(), FORGOTTEN_SECONDS)
        await self._commands.link.run(script("dockets_report"), self._keys, args)

    async def drop(self, worker_id: str) -> None:
        reports, times = self._keys
        await self._commands.link.call(("HDEL", reports, worker_id), ("ZREM", times, worker_id))

    async def find(self) -> list[WorkerReport]:
        shown = await self._commands.link.run(
            script("dockets_reports"), self._keys, (self._now(), FORGOTTEN_SECONDS, _MOST_SHOWN)
        )
        now = self._clock.time()
        rows = zip(shown[::3], shown[1::3], shown[2::3], strict=True)
        found = [
            report_in(worker_id.decode(errors="replace"), text, now - float(age))
            for worker_id, age, text in rows
        ]
        return [each for each in found if each is not None]
