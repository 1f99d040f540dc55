"""huey: one thread, its default and, with no-ops, its fastest; results not kept."""

import logging

from huey import RedisHuey

from benchmarks.peers import jobs
from benchmarks.peers.adapter import URL, BlockingProducer

huey = RedisHuey("benchmark", url=URL, results=False)
note = huey.task()(jobs.note_blocking)


def work() -> None:
    logging.getLogger("huey").setLevel(logging.WARNING)
    huey.create_consumer(workers=1).run()


class HueyProducer(BlockingProducer):
    def push(self, number: int, text: str) -> None:
        note(number, text)


BLOCKING_PRODUCER = HueyProducer
