"""Bad bytes: ``python -m attacks.fuzz --seed 1 --inputs 1000000``.

Feeds every decoder its share of spoilt examples, and the monsters. It ends with status 1 if one
raised anything but `UnreadableItem`, ran code, took longer than it may, or if the process grew by
more than it may; the input is printed, and the seed gives it again.
"""

import argparse
import faulthandler
import logging
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from attacks.decoders import DECODERS
from attacks.feeding import feed, warm_up
from attacks.spoiling import bombs, monsters, spoil

__all__ = ["Feeding", "main", "spoilt"]

ADDRESS_SPACE = 4 << 30
MOST_GROWTH = 600 << 20
"""A monster is 10 MB, and is there a few times while it is decoded."""
HANG_SECONDS = 30.0


class Feeding:
    """Feeds inputs, and keeps the figures."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.failures = 0
        self.slowest = (0.0, "")

    def __call__(self, name: str, data: bytes, told: str) -> None:
        start = time.perf_counter()
        try:
            is_read = feed(DECODERS[name], data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.failures += 1
            print(f"FAILED {name}, {told}: {error!r:.300}\n  {data[:300]!r}", file=sys.stderr)
            return
        self.slowest = max(self.slowest, (time.perf_counter() - start, f"{name}, {told}"))
        (self.read if is_read else self.refused)[name] += 1


def spoilt(
    seed: int, count: int, names: Sequence[str] = tuple(DECODERS)
) -> Iterator[tuple[str, bytes, str]]:
    """So many inputs, for each decoder in turn: its name, the bytes, and where they come from."""
    chance = Random(seed)
    for number in range(count):
        name = names[number % len(names)]
        examples = DECODERS[name].examples
        data = spoil(chance.choice(examples), chance.choice(examples), chance)
        yield name, data, f"seed {seed}, input {number}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600, help="end after so long at the most")
    parser.add_argument("--only", nargs="+", help="some decoders", choices=list(DECODERS))
    options = parser.parse_args()
    names = options.only or list(DECODERS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    os.chdir("/")
    logging.getLogger("deferrable").setLevel(logging.CRITICAL + 1)
    warm_up()
    before, start = _peak(), time.monotonic()
    feeding, count = Feeding(), 0
    for told, data in [*monsters(), *bombs()]:
        for name in names:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            feeding(name, data, told)
            count += 1
    for name, data, told in spoilt(options.seed, options.inputs - count, names):
        if count % 1000 == 0:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            if time.monotonic() - start > options.seconds:
                break
        feeding(name, data, told)
        count += 1
    faulthandler.cancel_dump_traceback_later()
    growth, seconds = _peak() - before, time.monotonic() - start
    print(
        f"bad bytes, seed {options.seed}: {count} inputs in {seconds:.0f} s "
        f"({count / seconds:.0f} a second), {feeding.failures} failures, grown by at most "
        f"{growth >> 20} MB, the slowest took {feeding.slowest[0]:.2f} s ({feeding.slowest[1]})"
    )
    for name in names:
        print(f"  {name}: {feeding.read[name]} read, {feeding.refused[name]} refused")
    return 1 if feeding.failures or growth > MOST_GROWTH else 0


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
