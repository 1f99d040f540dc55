"""A stretch of time, drawn from left to right.

Owns the scale from seconds to places, and the axis with its marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pictures.svg import centered, path

__all__ = ["Scale", "axis", "short"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a moment is drawn.

    Attributes:
        left: the place of second 0.
        right: the place of second `seconds`.
    """

    left: float
    right: float
    seconds: float

    def x(self, moment: float) -> float:
        return self.left + (self.right - self.left) * moment / self.seconds


def axis(scale: Scale, y: float, marks: Sequence[float], unit: str = "s") -> list[str]:
    """A line with a mark and a number at some moments."""
    parts = [path(f"M{scale.left} {y}H{scale.right}", "twig")]
    for mark in marks:
        parts.append(path(f"M{scale.x(mark):.1f} {y}v5", "twig"))
        parts.append(centered(scale.x(mark), y + 19, f"{short(mark)} {unit}", "faint"))
    return parts


def short(seconds: float) -> str:
    """A number of seconds without noise behind the point."""
    return f"{round(seconds, 2):g}"
