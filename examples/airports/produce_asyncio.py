"""A producer on asyncio: many calls are on their way at a time, and travel together."""

import asyncio
import json
import sys

from airports import world
from airports.jobs import call_to_board, find_hub, instance, producer, tally

AT_A_TIME = 500


async def main() -> None:
    producer.set("asyncio")
    codes = world.choose(int(sys.argv[1]))[1::2]
    short = call_to_board.options(ttl_seconds=0.05)
    await asyncio.gather(*(short.later_async(code) for code in codes[:50]))
    long = call_to_board.options(ttl_seconds=3600)
    await long.later_many_async([(code,) for code in codes[50:100]])
    print("boarding", flush=True)

    for start in range(0, len(codes), AT_A_TIME):
        await asyncio.gather(*(defer(code) for code in codes[start : start + AT_A_TIME]))
    print(json.dumps(tally.counts))


async def defer(code: str) -> None:
    job = find_hub.options(delay_seconds=2) if world.one_in(10, code, "late") else find_hub
    await job.later_async(code)


if __name__ == "__main__":
    asyncio.run(main())
    instance.close()
