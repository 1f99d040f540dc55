"""The checks of the documentation site find what they are there to find.

The site itself is built by ``nox -s docs``. Here each check reads a small site with one fault.
"""

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from processes import ROOT

sys.path.append(str(ROOT / "docs" / "site"))

from checks import problems_of_names, problems_of_navigation, problems_of_site
from links import page_of, rewritten, targets_of

GOOD = """
<html><head><link rel="stylesheet" href="style.css"></head>
<body><h1 id="top">Title</h1><a href="other.html#part">other</a><a href="#top">up</a>
<a href="https://example.com/">elsewhere</a></body></html>
"""
OTHER = '<h2 id="part">Part</h2><a href="index.html">back</a><img src="picture.svg">'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text(GOOD)
    (tmp_path / "other.html").write_text(OTHER)
    (tmp_path / "style.css").write_text("body { background: url(picture.svg) }")
    (tmp_path / "picture.svg").write_text("<svg/>")
    return tmp_path


def test_site_without_a_fault_has_no_problem(site: Path) -> None:
    assert problems_of_site(site) == []


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ('<a href="gone.html">x</a>', "link to gone.html, but there is no gone.html"),
        ('<a href="other.html#gone">x</a>', "but other.html has no such anchor"),
        ('<a href="#gone">x</a>', "but index.html has no such anchor"),
        ('<a href="/other.html">x</a>', "begins at the host"),
        ('<a href=".">x</a>', "but there is no ."),
        ('<img src="gone.png">', "link to gone.png, but there is no gone.png"),
        ('<script src="https://example.com/x.js"></script>', "from another host"),
        ('<link rel="preconnect" href="//fonts.example.com">', "from another host"),
        ('<link rel="stylesheet" href="http://example.com/x.css">', "from another host"),
        ('<p style="background: url(https://example.com/x.png)">', "from another host"),
        ('<style>@import "https://example.com/x.css";</style>', "from another host"),
        ("<script src=gone.js></script>", "link to gone.js, but there is no gone.js"),
    ],
)
def test_fault_in_a_page_is_found(site: Path, added: str, problem: str) -> None:
    (site / "index.html").write_text(GOOD + added)

    (found,) = problems_of_site(site)

    assert found.startswith("index.html: ")
    assert problem in found


@pytest.mark.parametrize(
    "rule", ['@import "//example.com/x.css";', "p { src: url('https://example.com/x.woff2') }"]
)
def test_sheet_that_loads_from_another_host_is_found(site: Path, rule: str) -> None:
    (site / "style.css").write_text(rule)

    (found,) = problems_of_site(site)

    assert found.startswith("style.css: loads ")


NAV = [{"Start": ["index.md", {"A title": "a.md"}]}, {"More": [{"Deep": ["b.md"]}]}]
PAGES = ["index.md", "a.md", "b.md", "files/examples/demo.py.md"]


@pytest.mark.parametrize(
    ("nav", "pages", "problems"),
    [
        (NAV, PAGES, []),
        (NAV, [*PAGES, "lost.md"], ["lost.md is in no navigation"]),
        (NAV, PAGES[1:], ["the navigation has index.md, which is not there"]),
        ([*NAV, "a.md"], PAGES, ["the navigation has a.md twice"]),
    ],
)
def test_navigation_has_every_page_once(
    nav: Sequence[object], pages: list[str], problems: list[str]
) -> None:
    assert problems_of_navigation(nav, pages) == problems


def test_public_name_that_no_page_documents_is_found(site: Path) -> None:
    assert problems_of_names(["part", "top", "gone"], site) == ["no page documents gone"]


def test_navigation_has_every_page_of_the_folder() -> None:
    config = tomllib.loads((ROOT / "docs" / "site" / "zensical.toml").read_text())
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}

    problems = problems_of_navigation(config["project"]["nav"], pages)

    assert [each for each in problems if each.endswith("in no navigation")] == []


# Links, which lead to files of the repository on GitHub and to pages in the site.


def place_of(path: str) -> str:
    return page_of(path, lambda path: path == "examples")


@pytest.mark.parametrize(
    ("path", "link", "there"),
    [
        ("docs/redis.md", "sqs.md#fifo", "sqs.md#fifo"),
        ("docs/redis.md", "../README.md#options", "readme.md#options"),
        ("docs/redis.md", "../examples", "files/examples/index.md"),
        ("docs/redis.md", "../examples/demo.py", "files/examples/demo.py.md"),
        ("docs/redis.md", "draw.py", "files/docs/draw.py.md"),
        ("docs/redis.md", "rooms.svg", "rooms.svg"),
        ("README.md", "docs/redis.md", "redis.md"),
        ("README.md", "LICENSE", "files/LICENSE.md"),
        ("benchmarks/README.md", "../docs/speed.md", "../../speed.md"),
        ("docs/redis.md", "https://example.com/a", "https://example.com/a"),
        ("docs/redis.md", "#here", "#here"),
    ],
)
def test_link_leads_to_the_page_of_its_file(path: str, link: str, there: str) -> None:
    assert rewritten(f"See [it]({link}).", path, place_of) == f"See [it]({there})."


def test_picture_in_html_is_found_in_the_site() -> None:
    text = '<img src="docs/rooms.svg" alt="rooms">'

    assert rewritten(text, "README.md", place_of) == '<img src="rooms.svg" alt="rooms">'


@pytest.mark.parametrize(
    "code", ["```python\n[a](x.py)\n```", "`[a](x.py)`", "``a`[a](x.py)``", "  ~~~\n[a](x)\n  ~~~"]
)
def test_code_keeps_what_looks_like_a_link(code: str) -> None:
    assert rewritten(code, "docs/redis.md", place_of) == code


def test_code_ends_where_it_ends() -> None:
    text = "`a` [b](../README.md) `c`"

    assert rewritten(text, "docs/redis.md", place_of) == "`a` [b](readme.md) `c`"


def test_every_target_of_a_page_is_found() -> None:
    text = "[a](../examples) `[b](b.md)` [c](c.md#d) [e](https://example.com)"

    assert targets_of(text, "docs/redis.md") == ["examples", "docs/c.md"]
