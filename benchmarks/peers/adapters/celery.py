"""celery: the solo pool, which is one process as the others' workers are; results ignored."""

from celery import Celery

from benchmarks.peers import jobs
from benchmarks.peers.adapter import URL, BlockingProducer

app = Celery("benchmark", broker=URL)
app.conf.task_ignore_result = True
note = app.task(name="note")(jobs.note_blocking)


def work() -> None:
    app.worker_main(["worker", "--pool", "solo", "--loglevel", "WARNING"])


class CeleryProducer(BlockingProducer):
    def push(self, number: int, text: str) -> None:
        note.delay(number, text)


BLOCKING_PRODUCER = CeleryProducer
