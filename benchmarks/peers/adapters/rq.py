"""rq: `SimpleWorker`, which forks no process for each job and is its fastest; results are kept only
where they are awaited.
"""

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.peers import jobs
from benchmarks.peers.adapter import URL, BlockingProducer

RESULT_SECONDS = 60

queue = Queue(connection=Redis.from_url(URL))


def work() -> None:
    SimpleWorker([queue], connection=queue.connection).work(logging_level="WARNING")


class RqProducer(BlockingProducer):
    def push(self, number: int, text: str) -> None:
        queue.enqueue(jobs.note_blocking, number, text, result_ttl=0)

    def call(self, number: int, text: str) -> object:
        job = queue.enqueue(jobs.answer_blocking, number, text)
        result = job.latest_result(timeout=RESULT_SECONDS)
        return None if result is None else result.return_value


BLOCKING_PRODUCER = RqProducer
