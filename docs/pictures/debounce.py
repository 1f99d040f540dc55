"""The time line of debounce: calls above, runs below, windows shaded.

Owns which calls the picture shows, and how it looks. What happens to each call is decided by
`deferrable.debounce.decide`; the picture shows the answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deferrable.debounce import PushDelayed, Skip, decide
from pictures.svg import COLOURS, MARGIN, arrow, box, centered, circle, path, svg, text, text_width
from pictures.timeline import Scale, axis, short

__all__ = ["draw_debounce"]

WIDTH = 860
LEFT, RIGHT = 96, WIDTH - 40
PANEL = 216
CALLS, RUNS, AXIS = 72, 132, 156
"""Where they are in a panel, from its top."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A call, and what was decided about it.

    Attributes:
        run_time: of the run that covers it.
        is_pushed: it became an item; else a pending item covers it.
    """

    time: float
    run_time: float
    is_pushed: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """One setting, and the moments of the calls."""

    options: str
    says: str
    window_seconds: float
    always_delay: bool
    calls: Sequence[float]
    end: float
    step: float


CALLS_OF_A_MINUTE = (0, 2, 5, 8, 14, 36, 39, 43)

PANELS = (
    Panel(
        "debounce_seconds=10",
        "the first call runs at once, and at most one run follows in each window",
        10,
        False,
        CALLS_OF_A_MINUTE,
        60,
        10,
    ),
    Panel(
        "debounce_seconds=10, debounce_always_delay=True",
        "the first call also waits for a whole window",
        10,
        True,
        CALLS_OF_A_MINUTE,
        60,
        10,
    ),
    Panel(
        "debounce_seconds=2.5",
        "a wait is rounded up to whole seconds, but not beyond one window",
        2.5,
        False,
        (0, 0.7, 1.8, 4.1, 5.2, 9.5, 10.3, 11.4),
        15,
        2.5,
    ),
)


def decided(panel: Panel) -> list[Shown]:
    """Feed the calls to the decision, as a store of windows does."""
    shown: list[Shown] = []
    available_time = None
    for now in panel.calls:
        decision = decide(available_time, now, panel.window_seconds, panel.always_delay)
        if isinstance(decision, Skip):
            shown.append(Shown(now, decision.pending_time, is_pushed=False))
            continue
        wait = decision.delay_seconds if isinstance(decision, PushDelayed) else 0.0
        available_time = now + wait
        shown.append(Shown(now, available_time, is_pushed=True))
    return shown


def windows(panel: Panel, shown: Sequence[Shown]) -> list[float]:
    """When the windows begin: at a run; at the call that waits, if every call waits."""
    pushed = [each for each in shown if each.is_pushed]
    return [each.time if panel.always_delay else each.run_time for each in pushed]


def draw_debounce() -> str:
    parts = legend(MARGIN + 12)
    top = MARGIN + 40
    for panel in PANELS:
        parts += draw_panel(panel, top)
        top += PANEL + 14
    return svg(WIDTH, top - 14 + MARGIN, parts, COLOURS)


def legend(y: float) -> list[str]:
    x = float(MARGIN + 8)
    parts = []
    for style, words in (
        ("blue-fill", "call that is pushed"),
        ("line blue-line", "call that is skipped: the run after it covers it"),
        ("green-fill", "run"),
        ("amber-fill shade", "window"),
    ):
        is_area = "shade" in style
        mark = box(x - 8, y - 11, 16, 14, style) if is_area else circle(x, y - 4, style)
        parts += [mark, text(x + 14, y, words, "faint")]
        x += text_width(words) + 42
    return parts


def draw_panel(panel: Panel, top: float) -> list[str]:
    scale = Scale(LEFT, RIGHT, panel.end)
    shown = decided(panel)
    parts = [box(MARGIN, top, WIDTH - 2 * MARGIN, PANEL, "band")]
    parts.append(text(MARGIN + 12, top + 22, panel.options, "name"))
    runs = sorted({each.run_time for each in shown})
    says = f"{len(shown)} calls, {len(runs)} runs: {panel.says}"
    parts.append(text(MARGIN + 12, top + PANEL - 14, says, "faint"))
    for start in windows(panel, shown):
        width = scale.x(panel.window_seconds) - scale.left
        height = RUNS - CALLS + 26
        parts.append(box(scale.x(start), top + CALLS - 13, width, height, "amber-fill shade"))
        parts.append(path(f"M{scale.x(start):.1f} {top + CALLS - 13}v{height}", "line amber-line"))
    parts.append(text(MARGIN + 12, top + CALLS + 5, "calls"))
    parts.append(text(MARGIN + 12, top + RUNS + 5, "runs"))
    for each in shown:
        parts += draw_call(scale, each, top)
    for run in runs:
        parts.append(circle(scale.x(run), top + RUNS, "green-fill", 7))
    marks = [panel.step * number for number in range(int(panel.end / panel.step) + 1)]
    return [*parts, *axis(scale, top + AXIS, marks)]


def draw_call(scale: Scale, each: Shown, top: float) -> list[str]:
    x, run_x, y = scale.x(each.time), scale.x(each.run_time), top + CALLS
    dashes = "" if each.is_pushed else "dashed"
    parts = arrow([(x, y + 7), (run_x, top + RUNS - 9)], "blue", dashes)
    parts.append(circle(x, y, "blue-fill" if each.is_pushed else "line blue-line"))
    return [*parts, centered(x, y - 19, short(each.time), "faint")]
