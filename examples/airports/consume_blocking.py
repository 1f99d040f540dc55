"""A consumer that never awaits: a plain loop. Async jobs run on the library's own event loop."""

import json
import logging

from airports.jobs import instance, results, tally


def main() -> None:
    # The one failure is meant; the summary tells it.
    logging.getLogger("deferrable").setLevel(logging.CRITICAL)
    with instance:
        while True:
            outcome = instance.run_once()
            if outcome is None and results.is_noted("over"):
                break
    print(json.dumps(tally.counts))


if __name__ == "__main__":
    main()
