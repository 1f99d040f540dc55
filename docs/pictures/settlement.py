"""The order of settlement: what is done first, and what a crash in between leaves behind.

Owns how the picture looks. The steps, and what is in the queues after each, are seen in real runs
by `pictures.settling`.
"""

from collections.abc import Sequence

from pictures.settling import ENDINGS, Step, one_step_backends, settle
from pictures.svg import COLOURS, MARGIN, arrow, box, centered, svg, text, text_width

__all__ = ["draw_settlement"]

WIDTH = 860
LEFT, GAP = 118, 26
ROW, BOX = 84, 30
KINDS = {"result": "amber", "copy": "blue", "end": "green", "events": "grey"}


def draw_settlement() -> str:
    parts = [text(MARGIN + 12, MARGIN + 14, "the job has ended, and is", "name")]
    parts.append(text(LEFT + 132, MARGIN + 14, "what is done, from left to right", "faint"))
    top = float(MARGIN + 30)
    for ending in ENDINGS:
        parts += draw_ending(ending, joined(settle(ending)), top)
        top += ROW
    for line in footer():
        parts.append(text(MARGIN + 12, top + 16, line, "faint"))
        top += 20
    return svg(WIDTH, top + MARGIN, parts, COLOURS)


def joined(steps: Sequence[Step]) -> list[Step]:
    """The steps, with all events in one."""
    events = [step.name for step in steps if step.kind == "events"]
    others = [step for step in steps if step.kind != "events"]
    last = steps[-1]
    return [*others, Step(f"emit {', '.join(events)}", "events", last.originals, last.copies)]


def after_crash(step: Step) -> str:
    """What a crash right after a step leads to."""
    if step.originals and step.copies:
        return "crash: both are there"
    return "crash: it comes back" if step.originals else ""


def draw_ending(ending: str, steps: Sequence[Step], top: float) -> list[str]:
    parts = [box(MARGIN, top, WIDTH - 2 * MARGIN, ROW - 8, "band")]
    parts.append(text(MARGIN + 12, top + 31, ending, "name"))
    x, middle = float(LEFT), top + 12 + BOX / 2
    for number, step in enumerate(steps):
        colour, width = KINDS[step.kind], text_width(step.name) + 16
        if number:
            parts += arrow([(x - GAP + 2, middle), (x - 2, middle)], "grey")
        parts.append(box(x, top + 12, width, BOX, f"{colour}-fill shade"))
        parts.append(centered(x + width / 2, middle + 5, step.name))
        crash = after_crash(step)
        if crash:
            parts.append(text(x, top + 62, crash, "faint"))
        x += width + GAP
    return parts


def footer() -> list[str]:
    names = one_step_backends()
    return [
        f"Where the broker can ({', '.join(names)}), push and complete are one step: never both.",
        "A holder that has lost its lease does none of this: its item is another consumer's.",
    ]
