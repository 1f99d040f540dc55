"""The pictures of the documentation say what the code says."""

import re
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from processes import DEADLINE_SECONDS, ROOT

DOCS = ROOT / "docs"
PICTURES = sorted(path.stem for path in DOCS.glob("*.svg"))
PAGES = "".join(path.read_text() for path in (ROOT / "README.md", *DOCS.glob("*.md")))
SVG = "{http://www.w3.org/2000/svg}"


def test_pictures_are_those_that_the_code_draws() -> None:
    done = subprocess.run(
        [sys.executable, "docs/draw.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", PICTURES)
def test_page_shows_the_picture(name: str) -> None:
    assert f"{name}.svg" in PAGES


@pytest.mark.parametrize("name", PICTURES)
def test_background_is_that_of_the_page(name: str) -> None:
    picture = (DOCS / f"{name}.svg").read_text()

    assert 'class="page"' not in picture
    assert "background" not in picture


@pytest.mark.parametrize("name", PICTURES)
def test_texts_are_inside_and_do_not_overlap(name: str) -> None:
    picture = ElementTree.parse(DOCS / f"{name}.svg").getroot()
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    rows: dict[float, list[tuple[float, float]]] = {}
    for text in picture.iter(f"{SVG}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        rows.setdefault(y, []).append((x, x + 0.602 * 13 * len(text.text or "")))
        assert 0 < y < height

    assert rows
    for row in rows.values():
        row.sort()
        assert row[0][0] >= 0
        assert row[-1][1] <= width
        assert all(left[1] < right[0] for left, right in pairwise(row))


@pytest.mark.parametrize("name", PICTURES)
def test_every_colour_has_another_in_dark_mode(name: str) -> None:
    style = (DOCS / f"{name}.svg").read_text().partition("</style>")[0]
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    coloured = re.compile(r"([.\w-]+) {[^}]*(?:fill|stroke): #")

    assert dark
    assert set(coloured.findall(light)) == set(coloured.findall(dark))
