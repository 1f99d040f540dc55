"""The state diagram of an item.

Owns where each state stands, and how the lines run. Which states there are, and what leads from one
to another, is found by `pictures.exploring`.

The one rule: each line that was found is drawn. A line without a route is an error, so who adds
a state to the code also places it here.
"""

from collections.abc import Mapping, Sequence

from pictures.exploring import explore
from pictures.svg import COLOURS, arrow, box, centered, circle, svg, text

__all__ = ["draw_item_life"]

WIDTH, HEIGHT = 868, 466
NODE_HEIGHT = 30

WAITING, ENDED = "waiting", "ended"
GROUPS = {
    WAITING: ("delayed", "queued", "retrying"),
    ENDED: ("errored", "completed", "cancelled", "expired"),
}
"""States that stand in one frame. What leads from all of them leads from the frame."""

FRAMES = {WAITING: (118, 44, 236, 346), ENDED: (704, 44, 148, 406)}

START = "start"
PLACES = {
    START: (44, 190, 12, "grey"),
    "delayed": (190, 90, 92, "amber"),
    "queued": (190, 190, 92, "blue"),
    "retrying": (190, 330, 92, "amber"),
    "running": (520, 190, 92, "violet"),
    "errored": (778, 90, 112, "red"),
    "completed": (778, 190, 112, "green"),
    "cancelled": (778, 356, 112, "grey"),
    "expired": (778, 424, 112, "grey"),
}
"""The middle of each state, its width and its colour."""

Route = tuple[Sequence[tuple[float, float]], tuple[float, float]]
ROUTES: Mapping[tuple[str, str], Route] = {
    (START, "queued"): ([(56, 190), (142, 190)], (56, 180)),
    (START, "delayed"): ([(44, 178), (44, 90), (142, 90)], (14, 76)),
    ("delayed", "queued"): ([(190, 106), (190, 173)], (198, 134)),
    ("queued", "running"): ([(236, 190), (472, 190)], (372, 184)),
    ("running", "queued"): ([(474, 198), (238, 198)], (372, 214)),
    ("running", "retrying"): ([(531, 206), (531, 318), (238, 318)], (362, 278)),
    ("retrying", "running"): ([(236, 342), (549, 342), (549, 207)], (372, 336)),
    ("running", "errored"): ([(566, 184), (582, 184), (582, 90), (720, 90)], (589, 84)),
    ("running", "completed"): ([(566, 190), (720, 190)], (589, 206)),
    ("running", "cancelled"): ([(566, 196), (582, 196), (582, 348), (720, 348)], (589, 342)),
    ("errored", "queued"): ([(778, 74), (778, 28), (330, 28), (330, 182), (238, 182)], (380, 22)),
    (WAITING, "cancelled"): ([(354, 366), (720, 366)], (372, 382)),
    (WAITING, "expired"): ([(190, 390), (190, 424), (720, 424)], (372, 418)),
}
"""How a line runs, and where the first of its texts stands."""


def draw_item_life() -> str:
    edges = from_frames(explore())
    parts: list[str] = []
    for name, frame in FRAMES.items():
        parts += [box(*frame, "band"), box(*frame, "edge")]
        parts.append(text(frame[0] + 10, frame[1] + 20, name, "faint"))
    for edge, labels in edges.items():
        parts += draw_edge(edge, labels)
    for state in dict.fromkeys(each for edge in edges for each in edge):
        if state not in GROUPS:
            parts += draw_state(state)
    return svg(WIDTH, HEIGHT, parts, COLOURS)


def from_frames(found: Mapping[tuple[str, str], Sequence[str]]) -> dict[tuple[str, str], list[str]]:
    """What was found; what leads from all states of a frame begins at the frame."""
    edges: dict[tuple[str, str], list[str]] = {}
    for (source, target), labels in found.items():
        for label in labels:
            frame = frame_of(source)
            members = GROUPS.get(frame, ())
            if members and all(label in found.get((each, target), ()) for each in members):
                kept = edges.setdefault((frame, target), [])
            else:
                kept = edges.setdefault((source, target), [])
            if label not in kept:
                kept.append(label)
    return edges


def frame_of(state: str) -> str:
    return next((name for name, members in GROUPS.items() if state in members), state)


def draw_edge(edge: tuple[str, str], labels: Sequence[str]) -> list[str]:
    if edge not in ROUTES:
        raise LookupError(f"{edge} ({', '.join(labels)}) is not in ROUTES; say how its line runs")
    points, (x, y) = ROUTES[edge]
    colour = PLACES[edge[1]][3]
    parts = arrow(points, colour)
    return [*parts, *(text(x, y + 17 * row, label) for row, label in enumerate(labels))]


def draw_state(state: str) -> list[str]:
    if state not in PLACES:
        raise LookupError(f"the state {state!r} is not in PLACES; say where it stands")
    x, y, width, colour = PLACES[state]
    if state == START:
        return [circle(x, y, f"{colour}-fill", 8)]
    left, top = x - width / 2, y - NODE_HEIGHT / 2
    return [
        box(left, top, width, NODE_HEIGHT, "band"),
        box(left, top, width, NODE_HEIGHT, f"line {colour}-line"),
        centered(x, y + 5, state, f"name {colour}-fill"),
    ]
