"""dramatiq: one worker of 8 threads, its default for one process, run in this process as its own
command does in a child. No result backend, its default.
"""

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers import jobs
from benchmarks.peers.adapter import URL, BlockingProducer

THREADS = 8

broker = RedisBroker(url=URL)
dramatiq.set_broker(broker)
note = dramatiq.actor(jobs.note_blocking)


def work() -> None:
    dramatiq.Worker(broker, worker_threads=THREADS).start()
    while True:
        time.sleep(3600)


class DramatiqProducer(BlockingProducer):
    def push(self, number: int, text: str) -> None:
        note.send(number, text)


BLOCKING_PRODUCER = DramatiqProducer
