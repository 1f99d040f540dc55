"""Two APIs: one job object, a blocking and an awaiting door, one engine.

Owns how the picture looks. Names, pairs of verbs, and what each door says about itself are read
from the classes.
"""

import inspect
from collections.abc import Sequence

import deferrable
from deferrable import aio
from deferrable.aio import backend
from deferrable.aio._engine.attempt import Attempt
from deferrable.aio._engine.deferring import defer
from deferrable.aio._engine.running import AwaitingDoor
from deferrable.aio.queue import Queue
from deferrable.outcome import Receipt
from deferrable.sync._door import BlockingDriver
from pictures.layers import LAYERS
from pictures.svg import LINE, MARGIN, arrow, box, centered, svg, text, wrapped

__all__ = ["draw_two_apis"]

WIDTH = 860
HALF = (WIDTH - 3 * MARGIN) / 2
SIDES = (MARGIN, 2 * MARGIN + HALF)
MIDDLES = tuple(side + HALF / 2 for side in SIDES)
VERBS = {"complete", "flush", "pop", "push", "release", "replace", "stats", "touch"}

COLOURS = {
    **{layer: (light, dark) for layer, (_, light, dark) in LAYERS.items()},
    "grey": ("#57606a", "#aab4be"),
}


def draw_two_apis() -> str:
    parts: list[str] = []
    y = float(MARGIN)
    callers = (
        ("code that blocks", deferrable.__name__, calls(awaited=False)),
        ("code that awaits", aio.__name__, calls(awaited=True)),
    )
    for side, (title, package, lines) in zip(SIDES, callers, strict=True):
        says = [f"from {package} import Deferrable", *lines]
        parts += room(side, y, HALF, "facade", title, says)
    height = room_height(1 + max(len(lines) for _, _, lines in callers))
    y = joined(parts, y + height, MIDDLES, MIDDLES, "facade")
    parts += room(MARGIN, y, WIDTH - 2 * MARGIN, "instance", "one job object", job_lines())
    y = joined(parts, y + room_height(len(job_lines())), MIDDLES, MIDDLES, "instance")
    for side, door in zip(SIDES, (BlockingDriver, AwaitingDoor), strict=True):
        lines = wrapped(first_line(door).split(), HALF - 28, " ")
        parts += room(side, y, HALF, "door", door.__name__, [*lines, ""][:2])
    y = joined(parts, y + room_height(2), MIDDLES, MIDDLES, "door")
    engine = [f"{each.__name__}: {first_line(each)}" for each in (defer, Attempt)]
    parts += room(MARGIN, y, WIDTH - 2 * MARGIN, "engine", "one engine", engine)
    middle = [WIDTH / 2]
    y = joined(parts, y + room_height(len(engine)), middle, middle, "engine")
    contract = [", ".join(sorted(VERBS & set(dir(Queue))))]
    parts += room(MARGIN, y, WIDTH - 2 * MARGIN, "contract", "the contract of a queue", contract)
    y += room_height(1)
    names = backends()
    ends = [MARGIN + (WIDTH - 2 * MARGIN) * (place + 0.5) / len(names) for place in range(4)]
    y = joined(parts, y, ends, ends, "contract")
    for end, name in zip(ends, names, strict=True):
        parts.append(box(end - 92, y, 184, 34, "band"))
        parts.append(box(end - 92, y, 184, 34, "line adapter-line"))
        parts.append(centered(end, y + 22, name, "name adapter-fill"))
    return svg(WIDTH, y + 34 + MARGIN, parts, COLOURS)


def calls(*, awaited: bool) -> list[str]:
    """How the verbs are called in one API."""
    job, receipt = pairs(aio.Job), pairs(Receipt)
    before, after = ("await ", "_async") if awaited else ("", "")
    lines = [f"{before}job.{name}{after}(...)" for name in job]
    listed = [f"{name}{after}()" for name in receipt]
    return lines + wrapped([f"{before}receipt.{listed[0]}", *listed[1:]], HALF - 28)


def pairs(kind: type) -> list[str]:
    """The verbs that exist twice: blocking, and to be awaited."""
    return sorted(name for name in dir(kind) if hasattr(kind, f"{name}_async"))


def job_lines() -> list[str]:
    assert deferrable.Job is aio.Job
    return [f"{aio.Job.__module__}.{aio.Job.__name__}: the same class on both sides"]


def first_line(thing: object) -> str:
    return str(inspect.getdoc(thing)).partition("\n")[0]


def backends() -> list[str]:
    """The backends, as their factories are called."""
    suffix = "BackendFactory"
    found = [name.removesuffix(suffix) for name in backend.__all__ if name.endswith(suffix)]
    return [name for name in found if name]


def room_height(lines: int) -> float:
    return 38 + LINE * lines


def room(
    x: float, y: float, width: float, layer: str, title: str, lines: Sequence[str]
) -> list[str]:
    height = room_height(len(lines))
    parts = [box(x, y, width, height, "band"), box(x, y, 5, height, f"{layer}-fill")]
    parts.append(text(x + 16, y + 23, title, f"name {layer}-fill"))
    for number, line in enumerate(lines):
        if line:
            parts.append(text(x + 16, y + 46 + LINE * number, line))
    return parts


def joined(
    parts: list[str], y: float, starts: Sequence[float], ends: Sequence[float], layer: str
) -> float:
    """Draw arrows from `y` to the next row, and return where that begins."""
    for start, end in zip(starts, ends, strict=True):
        parts += arrow([(start, y), (end, y + 26)], layer)
    return y + 28
