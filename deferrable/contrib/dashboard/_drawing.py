"""Charts, drawn as SVG.

Owns the lines. A drawing holds numbers and fixed words only, and has no styles: its classes get
their colours from the style sheet, light or dark.
"""

from collections.abc import Sequence

from markupsafe import Markup

from deferrable.contrib.dashboard._history import SLOT_SECONDS, SLOTS

__all__ = ["Point", "chart", "sparkline"]

Point = tuple[float, float | None]
"""A moment and a number; None: unknown."""

_HOUR = SLOTS * SLOT_SECONDS


def sparkline(points: Sequence[Point], now: float, label: str) -> Markup:
    """A small line, the size of a word."""
    return _svg(points, now, 120, 28, "spark", label)


def chart(points: Sequence[Point], now: float, kind: str, label: str) -> Markup:
    """A line with the area under it.

    Args:
        kind: the class of its colour.
        label: what is drawn, for people who do not see it.
    """
    return _svg(points, now, 600, 120, f"chart {kind}", label)


def _svg(
    points: Sequence[Point], now: float, width: int, height: int, kind: str, label: str
) -> Markup:
    most = max((value for _, value in points if value is not None), default=0.0) or 1.0
    lines, areas = [], []
    for run in _runs(points):
        places = [
            (width * (1 - (now - moment) / _HOUR), (height - 3) * (1 - value / most) + 1.5)
            for moment, value in run
        ]
        if len(places) == 1:
            places.append((places[0][0] + width * SLOT_SECONDS / _HOUR, places[0][1]))
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(line)
        areas.append(f"{places[0][0]:.1f},{height} {line} {places[-1][0]:.1f},{height}")
    drawn = Markup().join(
        [
            *(Markup('<polygon class="area" points="{}"/>').format(area) for area in areas),
            *(Markup('<polyline class="line" points="{}"/>').format(line) for line in lines),
        ]
    )
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>'
    ).format(kind, width, height, label, drawn)


def _runs(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """The points without gaps: what is unknown is not drawn."""
    runs: list[list[tuple[float, float]]] = [[]]
    for moment, value in points:
        if value is None or (runs[-1] and moment - runs[-1][-1][0] > 7 * SLOT_SECONDS):
            runs.append([])
        if value is not None:
            runs[-1].append((moment, value))
    return [run for run in runs if run]
