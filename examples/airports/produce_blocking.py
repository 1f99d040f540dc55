"""A producer that never awaits: a script, a Django view."""

import json
import sys

from airports import world
from airports.jobs import call_to_board, find_hub, producer, tally


def main() -> None:
    producer.set("blocking")
    codes = world.choose(int(sys.argv[1]))[::2]
    for code in codes[:50]:
        call_to_board.options(ttl_seconds=0.05).later(code)
    call_to_board.options(ttl_seconds=3600).later_many([(code,) for code in codes[50:100]])
    print("boarding", flush=True)

    for code in codes:
        job = find_hub.options(delay_seconds=2) if world.one_in(10, code, "late") else find_hub
        job.later(code)
    find_hub.later(world.NOT_IN_THE_DATA)
    print(json.dumps(tally.counts))


if __name__ == "__main__":
    main()
