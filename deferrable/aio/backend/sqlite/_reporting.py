"""The reports of a queue's workers in the file.

Owns their rows. The rule: each has an end, and a worker that reports deletes those that are over.
"""

from deferrable.aio.backend.sqlite import _statements as sql
from deferrable.aio.backend.sqlite._store import Lane, Now, Store, as_text
from deferrable.worker_reports import FORGOTTEN_SECONDS, WorkerReport, report_in, text_of

__all__ = ["drop", "find", "keep"]


def keep(store: Store, lane: Lane, report: WorkerReport, now: Now) -> None:
    queue = store.id_of(lane.name)
    store.change(sql.KEEP_WORKER, queue, report.id, now.time, text_of(report))
    store.change(sql.DROP_OLD_WORKERS, queue, now.time - FORGOTTEN_SECONDS)


def drop(store: Store, lane: Lane, worker_id: str) -> None:
    store.change(sql.DROP_WORKER, store.known_id(lane.name), worker_id)


def find(store: Store, lane: Lane, now: Now) -> list[WorkerReport]:
    rows = store.rows(sql.WORKERS, store.known_id(lane.name), now.time - FORGOTTEN_SECONDS)
    found = [report_in(as_text(key) or "", text, seen) for key, seen, text in rows]
    return [each for each in found if each is not None]
