"""Draw the pictures of the documentation from the code.

Owns which pictures there are. Nothing in them is written by hand: a module in ``pictures/`` asks
the code and draws the answer. Run it with ``python docs/draw.py``; ``--check`` only compares.
"""

import sys

from pictures import DOCS, ROOT
from pictures.debounce import draw_debounce
from pictures.item_life import draw_item_life
from pictures.lease import draw_lease
from pictures.lease_table import draw_lease_table
from pictures.rooms import draw_rooms
from pictures.settlement import draw_settlement
from pictures.speed import draw_speed
from pictures.two_apis import draw_two_apis
from pictures.ways import PYTHONS, draw_ways


def main() -> int:
    wrong = []
    for name, picture in pictures().items():
        path = DOCS / f"{name}.svg"
        if path.exists() and path.read_text() == picture:
            continue
        wrong.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(picture)
            print(f"drew {path.relative_to(ROOT)}")
    if wrong and "--check" in sys.argv:
        print(f"{', '.join(wrong)}: not what the code says; run python docs/draw.py")
        return 1
    return 0


def pictures() -> dict[str, str]:
    """The text of each picture that this Python draws, by its name."""
    drawn = {
        "debounce": draw_debounce(),
        "item-life": draw_item_life(),
        "lease": draw_lease(),
        "lease-table": draw_lease_table(),
        "rooms": draw_rooms(),
        "settlement": draw_settlement(),
        "speed": draw_speed(),
        "two-apis": draw_two_apis(),
    }
    if sys.version_info[:2] in PYTHONS:
        drawn |= draw_ways()
    return drawn


if __name__ == "__main__":
    sys.exit(main())
