"""dramatiq: as by default, and with actors that are interrupted when a worker stops ("notify")."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.promises import journal

broker = RedisBroker(
    url=journal.URL,
    heartbeat_timeout=journal.LEASE_SECONDS * 1000,
    maintenance_chance=1_000_000,  # each command looks for the messages of dead workers
)
dramatiq.set_broker(broker)
job = dramatiq.actor(
    actor_name="run",
    max_retries=journal.ATTEMPTS - 1,
    min_backoff=100,
    notify_shutdown=journal.VARIANT == "notify",
)(journal.run)


def push() -> None:
    job.send()


def work() -> None:
    options = ["--processes", "1", "--threads", "1"]
    patience = ["--worker-shutdown-timeout", str(journal.STOP_SECONDS * 1000)]
    journal.become("dramatiq", __spec__.name, *options, *patience)


if __name__ == "__main__":
    journal.main(push, work)
