"""How a page of the repository becomes a page of the site: its links lead elsewhere.

A page links to the files of the repository as they lie, so that its links work on GitHub. In the
site each of these files is a page, too. What stands in a block or a span of code is no link.
"""

import posixpath
import re
from collections.abc import Callable

__all__ = ["PAGES_OF_ROOT", "page_of", "rewritten", "targets_of"]

PAGES_OF_ROOT = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
"""The pages of the site that lie at the top of the repository."""

CODE = r"^(?P<fence> *(?:```+|~~~+)).*?^(?P=fence) *$|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
LINK = re.compile(
    rf"{CODE}|(?P<before>\]\(|\b(?:href|src|srcset)=\")(?P<target>[^\s)\"]+)",
    re.MULTILINE | re.DOTALL,
)
ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:|#|//")


def rewritten(text: str, path: str, place_of: Callable[[str], str]) -> str:
    """The `text` of a page with the links that it has in the site.

    Args:
        path: of the page in the repository.
        place_of: the page or file of the site for a path of the repository.
    """
    here = posixpath.dirname(place_of(path))

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if target is None or ELSEWHERE.match(target):
            return match.group()
        file, sign, anchor = target.partition("#")
        there = place_of(posixpath.normpath(posixpath.join(posixpath.dirname(path), file)))
        return f"{match['before']}{posixpath.relpath(there, here or '.')}{sign}{anchor}"

    return LINK.sub(link, text)


def targets_of(text: str, path: str) -> list[str]:
    """The paths of the repository that a page links to."""
    found: list[str] = []

    def note(target: str) -> str:
        found.append(target)
        return target

    rewritten(text, path, note)
    return found[1:]  # the first one is the page itself


def page_of(path: str, is_folder: Callable[[str], bool]) -> str:
    """Where the site has a `path` of the repository."""
    if path in PAGES_OF_ROOT:
        return PAGES_OF_ROOT[path]
    if path.startswith("docs/") and not path.endswith((".py", ".toml")):
        return path.removeprefix("docs/")
    return f"files/{path}/index.md" if is_folder(path) else f"files/{path}.md"
