"""The chart of speed: a few measures, each library a bar, the best on top.

Owns which measures are shown, and how. The figures are those that ``python -m benchmarks.peers
--json`` writes; a test compares them with the table in docs/speed.md.
"""

from benchmarks.peers.catalogue import RAW, US
from benchmarks.peers.results import MEASURES, Measure, Results
from pictures import ROOT
from pictures.svg import COLOURS, MARGIN, box, svg, text, text_width

__all__ = ["FIGURES", "draw_speed"]

FIGURES = ROOT / "benchmarks" / "figures.json"
SHOWN = ("process", "worker_cpu", "single", "concurrent", "threads", "p50")
WIDTH, COLUMNS = 860, 2
PANEL = (WIDTH - (COLUMNS + 1) * MARGIN) / COLUMNS
NAMES, ROW = 104, 24
"""The width of the names, and the height of a bar with its gap."""


def draw_speed() -> str:
    results = Results.read(FIGURES)
    parts: list[str] = []
    top = float(MARGIN)
    for first in range(0, len(SHOWN), COLUMNS):
        measures = [MEASURES[key] for key in SHOWN[first : first + COLUMNS]]
        height = 44 + ROW * max(len(results.of_measure(each.key)) for each in measures)
        for number, measure in enumerate(measures):
            left = MARGIN + (PANEL + MARGIN) * number
            parts.append(box(left, top, PANEL, height, "band"))
            parts += draw_measure(results, measure, left, top)
        top += height + 12
    return svg(WIDTH, top - 12 + MARGIN, parts, COLOURS)


def draw_measure(results: Results, measure: Measure, left: float, top: float) -> list[str]:
    found = {name: each.median for name, each in results.of_measure(measure.key).items()}
    names = sorted(found, key=lambda name: found[name], reverse=measure.is_rate)
    texts = {name: f"{found[name]:,.{measure.digits}f}" for name in names}
    room = PANEL - NAMES - 36 - max(map(text_width, texts.values()))
    best = "more is better" if measure.is_rate else "less is better"
    parts = [text(left + 12, top + 22, f"{measure.title}, {measure.unit}", "name")]
    parts.append(text(left + PANEL - 12 - text_width(best), top + 22, best, "faint"))
    for row, name in enumerate(names):
        y = top + 50 + ROW * row
        width = max(2.0, room * found[name] / max(found.values()))
        colour = "blue" if name == US else "grey"
        shade = " shade" if name == RAW else ""
        parts.append(text(left + 12, y, name, "name" if name == US else "plain"))
        parts.append(box(left + NAMES + 12, y - 12, width, 15, f"{colour}-fill{shade}"))
        parts.append(text(left + NAMES + 20 + width, y, texts[name], "faint"))
    return parts
