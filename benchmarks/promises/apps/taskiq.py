"""taskiq with taskiq-redis: its list broker, and its broker on a Redis stream ("stream")."""

import asyncio

from taskiq_redis import ListQueueBroker, RedisStreamBroker

from benchmarks.promises import journal

if journal.VARIANT == "stream":
    broker = RedisStreamBroker(
        journal.URL, idle_timeout=journal.LEASE_SECONDS * 1000, consumer_id="0"
    )
else:
    # By the default of redis-py 8, an idle worker would end every 5 s with a TimeoutError.
    broker = ListQueueBroker(journal.URL, socket_timeout=None)
task = broker.register_task(journal.run_async, task_name="run")


def push() -> None:
    async def kick() -> None:
        await broker.startup()
        await task.kiq()
        await broker.shutdown()

    asyncio.run(kick())


def work() -> None:
    patience = ["--wait-tasks-timeout", str(journal.STOP_SECONDS)]
    journal.become("taskiq", "worker", f"{__spec__.name}:broker", "--workers", "1", *patience)


if __name__ == "__main__":
    journal.main(push, work)
