"""celery: as by default, and with late acknowledgement ("late"), each with one child process."""

from celery import Celery

from benchmarks.promises import journal

IS_LATE = journal.VARIANT == "late"

app = Celery("promises", broker=journal.URL)
app.conf.task_ignore_result = True
app.conf.broker_transport_options = {
    "visibility_timeout": journal.LEASE_SECONDS,
    "unacked_restore_interval": 1,  # by default each 10 s, and one in ten of these looks
    "unacked_restore_throttle": 1,
}
app.conf.task_acks_late = IS_LATE
app.conf.task_reject_on_worker_lost = IS_LATE
app.conf.worker_prefetch_multiplier = 1
app.conf.worker_soft_shutdown_timeout = journal.STOP_SECONDS if IS_LATE else 0
job = app.task(name="run", max_retries=journal.ATTEMPTS - 1)(journal.run)


def push() -> None:
    job.delay()


def work() -> None:
    app.worker_main(["worker", "--concurrency", "1", "--loglevel", "INFO", "-n", f"{id(app)}@x"])


if __name__ == "__main__":
    journal.main(push, work)
