"""The pages of the public API, made from the table of public names in the tests.

Owns which page has which name. Every public name is on one page, under the path by which a user
imports it; `missing_names` finds those that a built site lacks.
"""

import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import griffe

__all__ = ["names_by_page", "write_api"]

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests")]

from test_arrows import DOORS  # noqa: E402
from test_public_paths import PUBLIC  # noqa: E402


@dataclass
class Page:
    """One page, with the objects whose homes begin with one of its prefixes."""

    file: str
    title: str
    intro: str
    prefixes: tuple[str, ...]
    names: list[str] = field(default_factory=list)


def pages() -> list[Page]:
    """The pages; an object is on the one with the longest prefix of its home."""
    return [
        Page(
            "blocking",
            "The blocking API",
            "For code that cannot await. `deferrable` and `deferrable.sync` are the same API.",
            ("deferrable.sync",),
        ),
        Page(
            "asyncio",
            "The asyncio API",
            "Jobs, queues and workers for code that awaits. What both APIs share is here, too.",
            ("deferrable.aio",),
        ),
        Page(
            "values",
            "Values and functions",
            "What both APIs take and return, and what authors of backends use.",
            ("deferrable",),
        ),
        Page("errors", "Errors", "All of them are `DeferrableError`.", ("deferrable.errors",)),
        Page(
            "backends",
            "Backends",
            "Each backend once for code that awaits (`deferrable.aio.backend`), and once for code "
            "that cannot (`deferrable.backend`).",
            ("deferrable.aio.backend", "deferrable.sync.backend", "deferrable.backend"),
        ),
        Page(
            "integrations",
            "Integrations",
            "Frameworks, metrics, traces and logs. Each needs the extra of its name.",
            ("deferrable.contrib",),
        ),
        Page(
            "testing",
            "Testing",
            "For tests of applications and of backends.",
            ("deferrable.testing",),
        ),
    ]


def names_by_page() -> list[Page]:
    """The pages with the public names that each one documents, under the first path of each."""
    package = griffe.load("deferrable", search_paths=[str(ROOT)], resolve_aliases=True)
    made = pages()
    seen: set[str] = set()
    for module, names in PUBLIC.items():
        for name in [*names.split(), *_exports(package, module)]:
            home = _home_of(package, f"{module}.{name}")
            if home not in seen:
                seen.add(home)
                _page_for(home, made).names.append(f"{module}.{name}")
    return made


def _exports(package: griffe.Object | griffe.Alias, module: str) -> list[str]:
    """The names that a door passes on, also those that nobody has tested."""
    if module not in DOORS:
        return []
    return sorted(map(str, _at(package, module).exports or ()))


def _at(package: griffe.Object | griffe.Alias, path: str) -> griffe.Object | griffe.Alias:
    return package if path == "deferrable" else package[path.removeprefix("deferrable.")]


def _home_of(package: griffe.Object | griffe.Alias, path: str) -> str:
    found = _at(package, path)
    return found.final_target.path if isinstance(found, griffe.Alias) else found.path


def _page_for(home: str, among: Iterable[Page]) -> Page:
    fitting = [
        (len(prefix), page)
        for page in among
        for prefix in page.prefixes
        if home.startswith(f"{prefix}.")
    ]
    return max(fitting, key=lambda each: each[0])[1]


def write_api(folder: Path) -> Collection[str]:
    """Write the pages into a `folder`, and return the names that have to be in the site."""
    folder.mkdir(parents=True)
    made = names_by_page()
    for page in made:
        directives = "".join(f"\n::: {name}\n" for name in sorted(page.names, key=_order))
        (folder / f"{page.file}.md").write_text(f"# {page.title}\n\n{page.intro}\n{directives}")
    (folder / "index.md").write_text(_contents(made))
    return [name for page in made for name in page.names]


def _order(path: str) -> tuple[str, str]:
    module, _, name = path.rpartition(".")
    return module, name.lower()


def _contents(made: Iterable[Page]) -> str:
    """The first page: every public name, and where to read about it."""
    parts = ["# The public API\n\nEverything that is not here may change in any release.\n"]
    for page in made:
        parts.append(f"\n## {page.title}\n\n{page.intro}\n\n")
        parts += [
            f"- [`{name}`]({page.file}.md#{name})\n" for name in sorted(page.names, key=_order)
        ]
    return "".join(parts)
