"""rq: without retries, as by default, and with them ("retry").

Its leases cannot be shorter than a minute. It looks for abandoned jobs each second here.
"""

from redis import Redis
from rq import Queue, Retry, Worker

from benchmarks.promises import journal

LOOK_SECONDS = 1
WORKER_SECONDS = 16
"""An idle worker waits for 15 s less, and only looks between two waits."""

queue = Queue(connection=Redis.from_url(journal.URL))


def push() -> None:
    retry = Retry(max=journal.ATTEMPTS - 1) if journal.VARIANT == "retry" else None
    queue.enqueue(journal.run, retry=retry)


def work() -> None:
    Worker(
        [queue],
        connection=queue.connection,
        job_monitoring_interval=LOOK_SECONDS,
        maintenance_interval=LOOK_SECONDS,
        worker_ttl=WORKER_SECONDS,
    ).work(with_scheduler=True)


if __name__ == "__main__":
    journal.main(push, work)
