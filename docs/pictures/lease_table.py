"""The table of leases: what each backend gives, and what the keeper makes of it.

Owns the columns. The numbers are those of a queue of each backend with its defaults, and of the
keeper's own decisions.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from deferrable.aio._engine.rounds import LEAD, pause_seconds
from deferrable.aio.backend import (
    BackendFactory,
    DocketsBackendFactory,
    InMemoryBackendFactory,
    SQLiteBackendFactory,
    SQSBackendFactory,
)
from deferrable.aio.envelope import Envelope
from deferrable.aio.queue import Queue
from pictures.svg import COLOURS, LINE, MARGIN, box, path, svg, text, text_width
from pictures.timeline import short

__all__ = ["draw_lease_table"]

BACKENDS: Sequence[tuple[str, Callable[..., BackendFactory], tuple[str, ...]]] = (
    ("memory", InMemoryBackendFactory, ()),
    ("SQLite", SQLiteBackendFactory, ("jobs.db",)),
    ("Redis", DocketsBackendFactory, ("redis://localhost",)),
    ("SQS", SQSBackendFactory, ()),
)
"""Each with what its factory needs. Nothing is connected."""

LEASE_OPTIONS = ("visibility_timeout", "timeout")
LIMIT_OPTIONS = ("max_redeliveries", "max_receive_count")


def draw_lease_table() -> str:
    columns = [row_names(), *(column(*each) for each in BACKENDS)]
    widths = [max(map(text_width, each)) + 16 for each in columns]
    parts: list[str] = []
    height = 2 * MARGIN + (LINE + 8) * len(columns[0])
    width = sum(widths) + 2 * MARGIN
    parts.append(box(MARGIN, MARGIN, width - 2 * MARGIN, LINE + 8, "band"))
    x = float(MARGIN + 12)
    for number, cells in enumerate(columns):
        for row, cell in enumerate(cells):
            y = MARGIN + (LINE + 8) * row + 19
            style = "name" if row == 0 else "plain" if number else "faint"
            parts.append(text(x, y, cell, style))
        x += widths[number]
    for row in range(1, len(columns[0]) + 1):
        y = MARGIN + (LINE + 8) * row
        parts.append(path(f"M{MARGIN} {y}H{width - MARGIN:.0f}", "twig"))
    return svg(width, height, parts, COLOURS)


def row_names() -> list[str]:
    return [
        "",
        "lease is set by",
        "held after a pop for",
        "touched every",
        "if touches fail, down to",
        "held for at most",
        "a lost item goes",
        "to the error queue after",
        "which is set by",
    ]


def column(name: str, factory: Callable[..., BackendFactory], given: Sequence[str]) -> list[str]:
    queue = factory(*given).create_backend_for_group(None).queue
    options = inspect.signature(factory).parameters
    option = next(each for each in LEASE_OPTIONS if is_lease(options.get(each), queue))
    limit = next(each for each in LIMIT_OPTIONS if each in options)
    count = options[limit].default
    noun = "redeliveries" if limit == "max_redeliveries" else "receives"
    if count is None:
        count = queue.max_redeliveries + 1
    return [
        name,
        option,
        f"{short(queue.lease_seconds)} s",
        f"{short(queue.lease_seconds * (1 - LEAD))} s",
        f"{short(soonest_seconds(queue))} s",
        "no limit" if queue.max_lease_seconds is None else hours(queue.max_lease_seconds),
        place_after_loss(queue),
        f"{count:g} {noun}",
        limit,
    ]


def is_lease(option: Any, queue: Queue) -> bool:
    return option is not None and option.default == queue.lease_seconds


def soonest_seconds(queue: Queue) -> float:
    """The shortest wait between two touches, while the broker cannot be reached."""
    return pause_seconds(Envelope(None, 0, 0), 0, queue.lease_seconds)


def place_after_loss(queue: Queue) -> str:
    if not queue.FIFO:
        return "anywhere"
    return "to the back" if queue.RECLAIMS_TO_BACK_OF_QUEUE else "to the front"


def hours(seconds: float) -> str:
    return f"{short(seconds / 3600)} h"
