"""How long to wait before something that failed is tried again.

The rule: many processes that lost one broker at once do not come back at once, so half of a pause
is left to chance. The caller draws the number.
"""

__all__ = ["growing_seconds", "jittered"]

_LARGEST_EXPONENT = 10


def growing_seconds(failures: int, first_seconds: float, longest_seconds: float) -> float:
    """The pause after so many failures in a row, from 1 on: it doubles up to the longest."""
    exponent = min(failures - 1, _LARGEST_EXPONENT)
    return float(min(first_seconds * 2.0**exponent, longest_seconds))


def jittered(seconds: float, draw: float) -> float:
    """Between half of `seconds` and all of it, as `draw`, from 0 to 1, says."""
    return seconds * (0.5 + 0.5 * draw)
