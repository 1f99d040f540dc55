"""Any backend against a small model: ``python -m attacks.model --seed 1 --examples 500``.

Prints how often each thing happened. A failure is shrunk, and printed as the calls that lead to it.
"""

import argparse
import logging
import sys
import time
from functools import partial

import hypothesis
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from attacks.machine import COUNTS, make_machine
from attacks.places import PLACES

__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place", choices=sorted(PLACES), default="memory")
    parser.add_argument("--examples", type=int, default=500)
    options = parser.parse_args()
    logging.getLogger("deferrable").setLevel(logging.CRITICAL + 1)
    start = time.monotonic()
    kind = PLACES[options.place]
    with kind.start() as broker:
        machine = hypothesis.seed(options.seed)(make_machine(partial(kind.make, broker)))
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            machine,
            settings=settings(
                max_examples=options.examples,
                stateful_step_count=60,
                deadline=None,
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
            ),
        )
    print(
        f"model of {options.place}, seed {options.seed}: {time.monotonic() - start:.0f} s, "
        + ", ".join(f"{name} {count}" for name, count in COUNTS.items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
