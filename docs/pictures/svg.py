"""A small library that draws SVG.

Owns the shapes, and the colours of text and lines in light and in dark mode. A picture has no
background, so it stands on any page, and it follows the mode of the page that shows it.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

__all__ = [
    "COLOURS",
    "LETTER",
    "LINE",
    "MARGIN",
    "SIZE",
    "arrow",
    "box",
    "centered",
    "circle",
    "path",
    "svg",
    "text",
    "text_width",
    "wrapped",
]

SIZE = 13
LETTER = SIZE * 0.61
"""How wide a letter of a monospaced font is, a little generously."""
LINE = 20
MARGIN = 16

COLOURS = {
    "blue": ("#0969da", "#79b8ff"),
    "green": ("#1a7f37", "#6fdd8b"),
    "amber": ("#946200", "#e3b341"),
    "red": ("#cf222e", "#ff8f86"),
    "violet": ("#6639ba", "#b79aff"),
    "grey": ("#57606a", "#aab4be"),
}
"""Colours with a meaning that a picture gives them: in light and in dark mode."""

STYLE = f"""
text {{ font: {SIZE}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
text {{ fill: #1f2328 }}
.band {{ fill: #f6f8fa }} .edge {{ fill: none; stroke: #d1d9e0 }}
.name {{ font-weight: bold }} .faint {{ fill: #59636e }}
.line {{ fill: none; stroke-width: 1.5 }} .twig {{ fill: none; stroke: #b7bfc8 }}
.dashed {{ stroke-dasharray: 4 3 }} .shade {{ opacity: 0.2 }}
{{light}}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }} .band {{ fill: #161b22 }} .edge {{ fill: none; stroke: #3d444d }}
.faint {{ fill: #9198a1 }} .twig {{ stroke: #4a525c }}
{{dark}}
}}
"""


def svg(
    width: float, height: float, parts: Sequence[str], colours: Mapping[str, tuple[str, str]]
) -> str:
    """A picture of that size.

    Args:
        colours: of the classes ``NAME-fill`` and ``NAME-line``, in light and in dark mode.
    """
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    style = STYLE.replace("{light}", _rules(colours, 0)).replace("{dark}", _rules(colours, 1))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, f"<style>{style}</style>", *parts, "</svg>\n"])


def _rules(colours: Mapping[str, tuple[str, str]], mode: int) -> str:
    return "\n".join(
        f".{name}-fill {{ fill: {dyes[mode]} }} .{name}-line {{ stroke: {dyes[mode]} }}"
        for name, dyes in colours.items()
    )


def text(x: float, y: float, content: str, style: str = "plain") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def text_width(content: str) -> float:
    return len(content) * LETTER


def centered(x: float, y: float, content: str, style: str = "plain") -> str:
    """A text in the middle of `x`. It has its own left end, so that tests see where it is."""
    return text(x - text_width(content) / 2, y, content, style)


def box(x: float, y: float, width: float, height: float, style: str) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" {size} rx="3"/>'


def circle(x: float, y: float, style: str, radius: float = 5) -> str:
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'


def path(steps: str, style: str) -> str:
    return f'<path class="{style}" d="{steps}"/>'


def arrow(points: Sequence[tuple[float, float]], colour: str, extra: str = "") -> list[str]:
    """A line through `points`, with its head at the last one."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    (x0, y0), (x, y) = points[-2:]
    length = max(((x - x0) ** 2 + (y - y0) ** 2) ** 0.5, 0.001)
    across, along = (x - x0) / length, (y - y0) / length
    back_x, back_y = x - 8 * across, y - 8 * along
    left = f"{back_x - 4 * along:.1f} {back_y + 4 * across:.1f}"
    right = f"{back_x + 4 * along:.1f} {back_y - 4 * across:.1f}"
    return [
        path(f"M{steps}", f"line {colour}-line {extra}".rstrip()),
        path(f"M{x:.1f} {y:.1f}L{left}L{right}z", f"{colour}-fill"),
    ]


def wrapped(words: Iterable[str], width: float, between: str = ", ") -> list[str]:
    """The words in lines of at most that width."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}{between}{word}" if lines[-1] else word
        if lines[-1] and text_width(longer + between.rstrip()) > width:
            lines[-1] += between.rstrip()
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
