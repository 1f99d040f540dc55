"""rq: without retries, as by default, and with them ("retry").

Its leases cannot be shorter than a minute; how often it looks for abandoned jobs is set to 1 s.
"""

from redis import Redis
from rq import Queue, Retry, Worker

from benchmarks.promises import journal

LOOK_SECONDS = 1

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
    ).work(with_scheduler=True)


if __name__ == "__main__":
    journal.main(push, work)
