"""How much the tests try: what there is time for at each change, or all of it.

Owns that choice. A promise has its test in either size. What differs is how many examples, jobs or
combinations prove it. ``nox -s full`` sets ``DEFERRABLE_TESTS=full``.
"""

import os

__all__ = ["IS_FULL", "sized"]

IS_FULL = os.environ.get("DEFERRABLE_TESTS") == "full"


def sized(short: int, full: int) -> int:
    """How many of something: `short` at each change, `full` when there is time."""
    return full if IS_FULL else short
