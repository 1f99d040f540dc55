"""huey in a file: as on Redis. ``fsync=False`` survives a killed process, True a power cut."""

import logging

from huey import SqliteHuey

from benchmarks.peers import jobs
from benchmarks.peers.adapter import IS_FULL, BlockingProducer, database_path

huey = SqliteHuey("benchmark", filename=database_path(), fsync=IS_FULL, results=False)
note = huey.task()(jobs.note_blocking)


def work() -> None:
    logging.getLogger("huey").setLevel(logging.WARNING)
    huey.create_consumer(workers=1).run()


class HueyProducer(BlockingProducer):
    def push(self, number: int, text: str) -> None:
        note(number, text)


BLOCKING_PRODUCER = HueyProducer
