"""Every attack, one after the other: ``python -m attacks.everything --seed 1 [--only chaos]``.

Owns which attacks the long version has, how large each of them is, and the summary at the end. One
that fails does not keep the next from running; the exit status is 1 if any did.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attacks.places import TROUBLED_PLACES
from attacks.unique import PLACES as UNIQUE_PLACES

__all__ = ["ATTACKS", "Attack", "run_all"]

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Attack:
    """One program.

    Attributes:
        command: its module and its arguments.
        takes_seed: it draws what it does.
    """

    command: str
    takes_seed: bool = True


ATTACKS = [
    Attack("attacks.cancel --place memory"),
    Attack("attacks.cancel --place dockets"),
    Attack("attacks.cancel --place sqlite"),
    Attack("attacks.cancel --place sqs --stride 7"),  # whole, it takes as long as all the others
    *(Attack(f"attacks.cancel --place {place} --stride 7") for place in TROUBLED_PLACES),
    Attack("attacks.model --place memory"),
    Attack("attacks.model --place dockets"),
    Attack("attacks.model --place sqlite"),
    Attack("attacks.model --place sqs --examples 100"),
    *(Attack(f"attacks.unique --kills 300 --place {place}") for place in UNIQUE_PLACES),
    Attack("mutants.run --whole", takes_seed=False),
    Attack("attacks.chaos --jobs 100000"),
    Attack("attacks.chaos --broker redis6 --jobs 20000"),
    Attack("attacks.chaos --stepping-clock --jobs 20000"),
    Attack("attacks.chaos --broker sqlite --jobs 20000"),
    Attack("attacks.chaos --broker sqs --jobs 3000 --lease-seconds 3"),
]


def run_all(attacks: Sequence[Attack], seed: int) -> list[str]:
    """Run them, print what they print, and then a summary; the commands of those that failed."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    failed, summary = [], []
    for attack in attacks:
        command = f"{attack.command} --seed {seed}" if attack.takes_seed else attack.command
        print(f"\n== python -m {command}", flush=True)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
        told = "FAILED" if done.returncode else "held"
        summary.append(f"{told:6} {time.monotonic() - start:6.0f} s  {command}")
        if done.returncode:
            failed.append(attack.command)
    print("\n== summary", *summary, sep="\n", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="those whose command contains this")
    options = parser.parse_args()
    chosen = [each for each in ATTACKS if options.only in each.command]
    if not chosen:
        parser.error(f"no attack contains {options.only!r}: see {__file__}")
    return 1 if run_all(chosen, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
