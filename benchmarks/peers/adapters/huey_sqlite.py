"""huey in a file: as on Redis, and as durable as the others.

Its ``fsync=True`` is ``synchronous = FULL``. Its ``fsync=False`` is OFF, with which a power cut may
destroy the file, so NORMAL is set instead, as the others have it.
"""

import logging
from sqlite3 import Connection

from huey import Huey
from huey.storage import SqliteStorage

from benchmarks.peers import jobs
from benchmarks.peers.adapter import IS_FULL, BlockingProducer, database_path


class Storage(SqliteStorage):
    def _create_connection(self) -> Connection:
        connection: Connection = super()._create_connection()
        connection.execute(f"PRAGMA synchronous = {'FULL' if IS_FULL else 'NORMAL'}")
        return connection


huey = Huey("benchmark", storage_class=Storage, filename=database_path(), results=False)
note = huey.task()(jobs.note_blocking)


def work() -> None:
    logging.getLogger("huey").setLevel(logging.WARNING)
    huey.create_consumer(workers=1).run()


class HueyProducer(BlockingProducer):
    def push(self, number: int, text: str) -> None:
        note(number, text)


BLOCKING_PRODUCER = HueyProducer
