"""A consumer on asyncio: as many loops as jobs may run at a time. Plain jobs run in threads."""

import asyncio
import json
import logging

from airports import jobs, place
from deferrable.aio import Deferrable, backend

AT_A_TIME = 32


async def main() -> None:
    # The one failure is meant; the summary tells it.
    logging.getLogger("deferrable").setLevel(logging.CRITICAL)
    factory = backend.from_url(place.URL, wait_time=jobs.WAIT_SECONDS)
    async with Deferrable(factory.create_backend_for_group(place.GROUP)) as instance:
        for job in (jobs.find_hub, jobs.recount, jobs.call_to_board):
            instance.deferrable(job.function)
        instance.register_event_consumer(jobs.tally)
        instance.register_metadata_producer_consumer(jobs.ProducersName())
        await asyncio.gather(*(consume(instance) for _ in range(AT_A_TIME)))
    print(json.dumps(jobs.tally.counts))


async def consume(instance: Deferrable) -> None:
    while True:
        outcome = await instance.run_once()
        if outcome is None and await asyncio.to_thread(jobs.results.is_noted, "over"):
            break


if __name__ == "__main__":
    asyncio.run(main())
    jobs.instance.close()
