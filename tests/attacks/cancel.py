"""Cancel everywhere: ``python -m attacks.cancel --seed 1 [--place dockets] [--stride N]``.

Strikes every scenario at every point (every Nth, from one that the seed draws) in every way, and
prints what happened to the items. It ends with status 1 if anything was lost or is in two places.
"""

import argparse
import faulthandler
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial

from attacks.places import PLACES, TROUBLED_PLACES, Place
from attacks.scenarios import SCENARIOS
from attacks.striking import STRIKES, Figures, strike_everywhere

__all__ = ["main"]

_PLACES = PLACES | TROUBLED_PLACES
HANG_SECONDS = 300
"""One scenario, struck in one way at all its points, takes seconds; longer than that is a hang."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place", choices=sorted(_PLACES), default="memory")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--only", help="one scenario", choices=sorted(SCENARIOS))
    options = parser.parse_args()
    logging.getLogger("deferrable").setLevel(logging.CRITICAL + 1)
    kind = _PLACES[options.place]
    with kind.start() as broker:
        return _attack(options, partial(kind.make, broker))


def _attack(options: argparse.Namespace, make_place: Callable[[], Place]) -> int:
    figures, failures, points = Figures(), 0, 0
    start = time.monotonic()
    chance = random.Random(options.seed)
    names = [options.only] if options.only else list(SCENARIOS)
    # In two steps, the first is a push: while it is refused, the item can only be held.
    can_push = not make_place().refuses_pushes
    strikes = [strike for strike in STRIKES if strike.is_atomic or can_push]
    for name in names:
        for strike in strikes:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            try:
                points += strike_everywhere(
                    make_place,
                    name,
                    strike,
                    figures,
                    first=chance.randrange(options.stride),
                    stride=options.stride,
                )
            except Exception:
                failures += 1
                traceback.print_exc()
    faulthandler.cancel_dump_traceback_later()
    print(
        f"cancel everywhere on {options.place}, seed {options.seed}: {len(names)} scenarios, "
        f"{len(strikes)} ways, {points} points, {time.monotonic() - start:.0f} s, "
        f"{failures} failed"
    )
    print(*figures.lines(), sep="\n")
    return 1 if failures or figures.lost else 0


if __name__ == "__main__":
    sys.exit(main())
