"""deferrable: a worker of its command line."""

from benchmarks.promises import journal
from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory

factory = DocketsBackendFactory(journal.URL, timeout=journal.LEASE_SECONDS)
instance = Deferrable(factory.create_backend_for_group("promises"))
job = instance.deferrable(name="run", max_attempts=journal.ATTEMPTS)(journal.run_async)


def push() -> None:
    job.later()


def work() -> None:
    grace = str(journal.STOP_SECONDS)
    journal.become("deferrable", "worker", f"{__spec__.name}:instance", "--grace", grace)


if __name__ == "__main__":
    journal.main(push, work)
