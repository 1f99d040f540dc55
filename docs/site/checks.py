"""What a built site must not have: broken links, lost pages, or anything from another host.

Owns the checks of HTML files in a folder and of a navigation. Each returns sentences, one for each
problem.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["problems_of_names", "problems_of_navigation", "problems_of_site"]

MADE_OF_FILES = "files/"
"""Pages that show a file of the repository; they are reached by links only."""
PARTS = {"script": "src", "img": "src", "source": "srcset", "iframe": "src", "link": "href"}
"""What a browser loads with a page, and where it says what."""
PLACES = {"canonical", "next", "prev"}
"""Links in the head of a page that load nothing."""
CSS_URL = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")


@dataclass
class Read(HTMLParser):
    """The anchors, links and parts of a page."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        part = values.get(PARTS.get(tag, ""))
        if part and values.get("rel") not in PLACES:
            self.parts.append(part)
        self.parts += CSS_URL.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.parts += CSS_URL.findall(data)


def read(page: Path) -> Read:
    """Read one page."""
    reader = Read()
    reader.feed(page.read_text())
    return reader


def problems_of_site(folder: Path) -> list[str]:
    """Links and anchors that lead nowhere, and parts that are not in the folder."""
    pages = {
        page.relative_to(folder).as_posix(): read(page) for page in sorted(folder.rglob("*.html"))
    }
    found = []
    for name, page in pages.items():
        found += [f"{name}: {each}" for each in _broken(name, page.links, folder, pages)]
        found += [f"{name}: loads {url} from another host" for url in filter(_is_far, page.parts)]
        near = [part for part in page.parts if not _is_far(part)]
        found += [f"{name}: {each}" for each in _broken(name, near, folder, pages)]
    for sheet in sorted(folder.rglob("*.css")):
        far = filter(_is_far, CSS_URL.findall(sheet.read_text()))
        found += [f"{sheet.relative_to(folder)}: loads {url} from another host" for url in far]
    return found


def _is_far(url: str) -> bool:
    return bool(urlsplit(url).netloc)


def _broken(name: str, links: Iterable[str], folder: Path, pages: dict[str, Read]) -> Iterator[str]:
    for link in links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        if parts.path.startswith("/"):
            yield f"link to {link} begins at the host, so it breaks where the site is in a folder"
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
        target = path if parts.path else name
        if not (folder / target).is_file():
            yield f"link to {link}, but there is no {target}"
        elif target in pages and unquote(parts.fragment) not in {"", *pages[target].anchors}:
            yield f"link to {link}, but {target} has no such anchor"


def problems_of_navigation(nav: Any, sources: Collection[str]) -> list[str]:
    """Pages that the navigation lacks, names twice, or names without their being there."""
    named = Counter(_pages_in(nav))
    shown = {page for page in sources if not page.startswith(MADE_OF_FILES)}
    return [
        *(f"the navigation has {page}, which is not there" for page in sorted(set(named) - shown)),
        *(f"{page} is in no navigation" for page in sorted(shown - set(named))),
        *(f"the navigation has {page} twice" for page, times in named.items() if times > 1),
    ]


def _pages_in(nav: Any) -> Iterator[str]:
    """The pages of a navigation, which holds names, lists, and tables with a title for each."""
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages_in(each)


def problems_of_names(names: Iterable[str], folder: Path) -> list[str]:
    """Public names that no page of the built API documents."""
    anchors = {anchor for page in folder.glob("*.html") for anchor in read(page).anchors}
    return [f"no page documents {name}" for name in names if name not in anchors]
