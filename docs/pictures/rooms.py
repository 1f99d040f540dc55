"""The map: the rooms of the package and the layers that import each other.

Owns how the map looks. What it shows comes from the import statements of the package, and the
layers from the test of arrows.
"""

from dataclasses import dataclass, field

from test_arrows import MODULES, all_arrows, layer_of

from pictures import PACKAGE
from pictures.layers import COLOURS, LAYERS
from pictures.svg import LINE, MARGIN, box, path, svg, text, wrapped

__all__ = ["draw_rooms"]


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
    for module, file in MODULES.items():
        if file.parent.name == "management":
            continue  # Django wants the folder, and nothing is in it
        room = file.parent.relative_to(PACKAGE).as_posix() + "/"
        room = room.replace("management/commands/", "manage/")  # shorter, to fit
        names = bands[layer_of(module)].rooms.setdefault(room.replace("./", "deferrable/"), [])
        if file.stem != "__init__" or layer_of(module) == "door":
            names.append(file.stem)
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
    return svg(first + LANE * len(lanes) + MARGIN, top - 12 + MARGIN, parts, COLOURS)


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
