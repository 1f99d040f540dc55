"""rq: `SimpleWorker`, which forks no process for each job and is its fastest; results not kept."""

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.peers import jobs
from benchmarks.peers.adapter import URL, BlockingProducer

queue = Queue(connection=Redis.from_url(URL))


def work() -> None:
    SimpleWorker([queue], connection=queue.connection).work(logging_level="WARNING")


class RqProducer(BlockingProducer):
    def push(self, number: int, text: str) -> None:
        queue.enqueue(jobs.note_blocking, number, text, result_ttl=0)


BLOCKING_PRODUCER = RqProducer
