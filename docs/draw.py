"""Draw the pictures of architecture.md: the rooms with their imports, and three ways through them.

Owns what the pictures show and how they look. Nothing in them is written by hand. The map comes
from the import statements of the package, the layers from the test of arrows, and a way from a
call that is made and traced. Run it with ``python docs/draw.py``; ``--check`` only compares.

A task starts at once from Python 3.12 on, so the ways are drawn by `PYTHONS` only, which agree.
"""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import CodeType, FrameType

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PACKAGE = ROOT / "deferrable"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_arrows import MODULES, all_arrows, layer_of  # noqa: E402

from deferrable.aio import Deferrable, backend  # noqa: E402

LAYERS = {
    "cli": ("Commands", "#b4530a", "#f0a868"),
    "contrib": ("Integrations", "#a3541b", "#e0a06a"),
    "harness": ("In tests", "#6639ba", "#b79aff"),
    "door": ("Doors", "#57606a", "#aab4be"),
    "testing": ("Testing", "#8250df", "#c8a6ff"),
    "facade": ("Blocking API", "#bf3989", "#ff9bce"),
    "instance": ("Instance", "#cf222e", "#ff8f86"),
    "engine": ("Engine", "#0969da", "#79b8ff"),
    "adapter": ("Adapters", "#1a7f37", "#6fdd8b"),
    "contract": ("Contract", "#946200", "#e3b341"),
    "pure": ("Pure", "#0e7490", "#67d3e8"),
}
"""From the top: what each layer is called, and its colour in light and in dark mode."""

PYTHONS = ((3, 12), (3, 13))
"""The versions that take the same ways."""

SIZE = 13
LETTER = SIZE * 0.61
"""How wide a letter of a monospaced font is, a little generously."""
LINE = 20
MARGIN = 16

STYLE = f"""
text {{ font: {SIZE}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
text {{ fill: #1f2328 }}
.page {{ fill: #ffffff }} .band {{ fill: #f6f8fa }}
.name {{ font-weight: bold }} .faint {{ fill: #59636e }}
.line {{ fill: none; stroke-width: 1.5 }} .twig {{ fill: none; stroke: #b7bfc8 }}
{{light}}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }} .page {{ fill: #0d1117 }} .band {{ fill: #161b22 }}
.faint {{ fill: #9198a1 }} .twig {{ stroke: #4a525c }}
{{dark}}
}}
"""


def main() -> int:
    wrong = []
    for name, picture in pictures().items():
        path = DOCS / f"{name}.svg"
        if path.exists() and path.read_text() == picture:
            continue
        wrong.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(picture)
            print(f"drew {path.relative_to(ROOT)}")
    if wrong and "--check" in sys.argv:
        print(f"{', '.join(wrong)}: not what the code says; run python docs/draw.py")
        return 1
    return 0


def pictures() -> dict[str, str]:
    """The text of each picture that this Python draws, by its name."""
    drawn = {"rooms": draw_rooms()}
    if sys.version_info[:2] in PYTHONS:
        for name, way in {"later": later, "run-once": run_once, "worker": worker}.items():
            drawn[f"way-{name}"] = draw_way(asyncio.run(traced(way)))
    return drawn


# The map.


@dataclass
class Band:
    """One layer on the map."""

    layer: str
    rooms: dict[str, list[str]] = field(default_factory=dict)
    top: float = 0
    height: float = 0
    sources: list[str] = field(default_factory=list)
    """The layers that import it, from the outermost line to the innermost."""

    def y_of(self, slot: int) -> float:
        """Where a line leaves or arrives: first what leaves, then what arrives."""
        return self.top + self.height * (slot + 1) / (len(self.sources) + 2)


ROOM_X, NAMES_X, BAND_END = 150, 332, 880
LANE = 16


def draw_rooms() -> str:
    bands = {layer: Band(layer) for layer in LAYERS}
    for module, path in MODULES.items():
        if path.parent.name == "management":
            continue  # Django wants the folder, and nothing is in it
        room = path.parent.relative_to(PACKAGE).as_posix() + "/"
        room = room.replace("management/commands/", "manage/")  # shorter, to fit
        names = bands[layer_of(module)].rooms.setdefault(room.replace("./", "deferrable/"), [])
        if path.stem != "__init__" or layer_of(module) == "door":
            names.append(path.stem)
    lanes = imports_by_layer()
    for source, targets in lanes.items():
        for target in targets:
            bands[target].sources.append(source)
    parts: list[str] = []
    top: float = MARGIN
    for band in bands.values():
        top = place_band(band, top, parts) + 12
    first = BAND_END + 32
    for number, (source, targets) in enumerate(lanes.items()):
        parts += lines_from(bands, source, targets, first + LANE * number)
    return svg(first + LANE * len(lanes) + MARGIN, top - 12 + MARGIN, parts)


def imports_by_layer() -> dict[str, list[str]]:
    """For each layer, the other layers that it imports, from the top."""
    pairs = {(layer_of(arrow.source), layer_of(arrow.target)) for arrow in all_arrows()}
    found = {
        source: [each for each in LAYERS if each != source and (source, each) in pairs]
        for source in LAYERS
    }
    return {source: targets for source, targets in found.items() if targets}


def place_band(band: Band, top: float, parts: list[str]) -> float:
    """Draw `band` from `top` on; return where it ends."""
    band.top = top
    y = top + 10
    texts: list[str] = []
    for room, names in sorted(
        band.rooms.items(), key=lambda each: (each[0] != "deferrable/", each[0])
    ):
        texts.append(text(ROOM_X, y + 14, room, "name"))
        for line in wrapped(sorted(names), BAND_END - NAMES_X - 12):
            texts.append(text(NAMES_X, y + 14, line, "faint"))
            y += LINE
    band.height = max(y + 8 - top, 14 * (len(band.sources) + 2))
    parts.append(box(MARGIN, top, BAND_END - MARGIN, band.height, "band"))
    parts.append(box(MARGIN, top, 5, band.height, f"{band.layer}-fill"))
    parts.append(text(MARGIN + 16, top + 24, LAYERS[band.layer][0], f"name {band.layer}-fill"))
    parts += texts
    return top + band.height


def wrapped(names: Iterable[str], width: float) -> list[str]:
    lines = [""]
    for name in names:
        longer = f"{lines[-1]}, {name}".removeprefix(", ")
        if lines[-1] and (len(longer) + 1) * LETTER > width:
            lines[-1] += ","
            lines.append(name)
        else:
            lines[-1] = longer
    return lines


def lines_from(bands: dict[str, Band], source: str, targets: list[str], x: float) -> list[str]:
    """The line that leaves `source`, runs down at `x`, and ends in an arrow at each target."""
    parts = [path(f"M{BAND_END} {bands[source].y_of(0):.1f}H{x}", f"line {source}-line")]
    ends = {}
    for target in targets:
        band = bands[target]
        ends[target] = y = band.y_of(1 + band.sources.index(source))
        parts.append(path(f"M{x} {y:.1f}H{BAND_END + 7}", f"line {source}-line"))
        head = f"M{BAND_END + 1} {y:.1f}l8 -4v8z"
        parts.append(path(head, f"{source}-fill"))
    heights = [bands[source].y_of(0), *ends.values()]
    parts.append(path(f"M{x} {min(heights):.1f}V{max(heights):.1f}", f"line {source}-line"))
    return parts


# The ways.


@dataclass
class Hop:
    """A call that leads into another file."""

    file: str
    function: str
    layer: str
    caller: "Hop | None"

    @property
    def depth(self) -> int:
        return 0 if self.caller is None else self.caller.depth + 1


class Trace:
    """What is called in this thread between `start` and `stop`.

    For each file, its first function that is called is a hop, and so is each caller of such a
    function, in whichever file it is.
    """

    def __init__(self) -> None:
        self.hops: dict[CodeType, Hop] = {}
        self._files: set[str] = set()

    def start(self) -> None:
        gc.disable()  # What it finalizes would be seen as a call.
        sys.setprofile(self._note)

    def stop(self) -> None:
        sys.setprofile(None)
        gc.enable()

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and is_ours(frame) and file_of(frame) not in self._files:
            self._hop(frame)

    def _hop(self, frame: FrameType) -> Hop:
        code = frame.f_code
        if code not in self.hops:
            caller = frame.f_back
            while caller is not None and not is_ours(caller):
                caller = caller.f_back
            above = None if caller is None else self._hop(caller)
            file = file_of(frame)
            module = ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")
            function = code.co_qualname.rpartition("<locals>.")[2]
            self.hops[code] = Hop(file, function, layer_of(module), above)
            self._files.add(file)
        return self.hops[code]


def is_ours(frame: FrameType) -> bool:
    """Whether it runs a function of the package. Comprehensions are calls on some Pythons only."""
    code = frame.f_code
    return Path(code.co_filename).is_relative_to(PACKAGE) and not code.co_name.startswith("<")


def file_of(frame: FrameType) -> str:
    return Path(frame.f_code.co_filename).relative_to(ROOT).as_posix()


Way = Callable[[Deferrable, Callable[[], Awaitable[object]], Trace], Awaitable[None]]


async def traced(way: Way) -> list[Hop]:
    """The hops of `way`, on a queue in memory, once everything has been called before."""
    factory = backend.InMemoryBackendFactory()
    trace = Trace()
    async with Deferrable(factory.create_backend_for_group("mail")) as instance:

        @instance.deferrable(name="send")
        async def send() -> None: ...

        for each in (Trace(), trace):
            try:
                await way(instance, send.later_async, each)
            finally:
                each.stop()
            await instance.backend.queue.flush()
    return depth_first(trace.hops.values())


async def later(_: Deferrable, defer: Callable[[], Awaitable[object]], trace: Trace) -> None:
    trace.start()
    await defer()


async def run_once(
    instance: Deferrable, defer: Callable[[], Awaitable[object]], trace: Trace
) -> None:
    await defer()
    trace.start()
    await instance.run_once()


async def worker(
    instance: Deferrable, defer: Callable[[], Awaitable[object]], trace: Trace
) -> None:
    await defer()
    async with instance.worker() as running:
        trace.start()
        await anext(aiter(running))
        for _ in range(20):
            await asyncio.sleep(0)  # until the item is completed
        trace.stop()


def depth_first(hops: Iterable[Hop]) -> list[Hop]:
    """Each hop below its caller; else in their order."""
    hops = list(hops)

    def below(caller: Hop | None) -> Iterable[Hop]:
        for hop in hops:
            if hop.caller is caller:
                yield hop
                yield from below(hop)

    return list(below(None))


def draw_way(hops: Sequence[Hop]) -> str:
    order = {id(hop): number for number, hop in enumerate(hops)}
    tree_x, indent, top = MARGIN + 34, 18, MARGIN + 34
    names_end = max(tree_x + indent * hop.depth + 12 + len(hop.function) * LETTER for hop in hops)
    file_x = names_end + 24
    width = file_x + max(len(hop.file) for hop in hops) * LETTER + MARGIN
    parts = legend([layer for layer in LAYERS if any(hop.layer == layer for hop in hops)])
    twigs, rows = [], []
    for number, hop in enumerate(hops):
        x, y = tree_x + indent * hop.depth, top + 24 * number + 10
        if hop.caller is not None:
            above = top + 24 * order[id(hop.caller)] + 10
            twigs.append(path(f"M{x - indent} {above}V{y}H{x}", "twig"))
        digits = str(number + 1)
        rows.append(text(MARGIN + 18 - len(digits) * LETTER, y + 4, digits, "faint"))
        rows.append(f'<circle class="{hop.layer}-fill" cx="{x}" cy="{y}" r="5"/>')
        rows.append(text(x + 12, y + 4, hop.function, "name"))
        rows.append(text(file_x, y + 4, hop.file, f"{hop.layer}-fill"))
    return svg(width, top + 24 * len(hops) + MARGIN, [*parts, *twigs, *rows])


def legend(layers: Iterable[str]) -> list[str]:
    parts, x = [], float(MARGIN + 6)
    for layer in layers:
        name = LAYERS[layer][0]
        parts.append(f'<circle class="{layer}-fill" cx="{x:.1f}" cy="{MARGIN + 8}" r="5"/>')
        parts.append(text(x + 10, MARGIN + 12, name, "faint"))
        x += len(name) * LETTER + 36
    return parts


# SVG.


def svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    page = f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>'
    light = STYLE.replace("{light}", colours(0)).replace("{dark}", colours(1))
    style = f"<style>{light}</style>"
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', style, page, *parts, "</svg>\n"]
    )


def colours(mode: int) -> str:
    return "\n".join(
        f".{layer}-fill {{ fill: {dyes[mode]} }} .{layer}-line {{ stroke: {dyes[mode]} }}"
        for layer, (_, *dyes) in LAYERS.items()
    )


def text(x: float, y: float, content: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def box(x: float, y: float, width: float, height: float, style: str) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" {size} rx="3"/>'


def path(steps: str, style: str) -> str:
    return f'<path class="{style}" d="{steps}"/>'


if __name__ == "__main__":
    sys.exit(main())
