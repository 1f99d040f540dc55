"""The folder that the site is built from.

Owns what lies in it: the pages of `docs`, those at the top of the repository, and a page for every
other file or folder of the repository that one of them links to.
"""

import posixpath
import shutil
from pathlib import Path

from links import PAGES_OF_ROOT, page_of, rewritten, targets_of

__all__ = ["write_sources"]

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}
NOT_FOUND_BY_SEARCH = "---\nsearch:\n  exclude: true\n---\n\n"


def write_sources(folder: Path) -> None:
    """Write the pages into an empty `folder`."""
    docs = ROOT / "docs"
    for file in docs.iterdir():
        if file.suffix in {".svg", ".png"}:
            _copy(file, folder / file.name)
    shutil.copytree(docs / "site" / "assets", folder / "assets")
    waiting = [*PAGES_OF_ROOT, *(f"docs/{page.name}" for page in docs.glob("*.md"))]
    done: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path not in done:
            done.add(path)
            waiting += _write(path, folder)


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def _is_folder(path: str) -> bool:
    return (ROOT / path).is_dir()


def _place_of(path: str) -> str:
    place = page_of(path, _is_folder)
    # Links lead to files that lie beside the pages, too.
    return place if (ROOT / path).exists() else f"missing/{path}"


def _write(path: str, folder: Path) -> list[str]:
    """Write the page of a path, and return the paths that it links to."""
    file, to = ROOT / path, folder / _place_of(path)
    if not file.exists():
        return []  # the link to it is found broken
    if file.suffix in {".svg", ".png"}:
        _copy(file, to)
        return []
    text = _text_of(path)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(rewritten(text, path, _place_of))
    return targets_of(text, path)


def _text_of(path: str) -> str:
    """The page of a file as it is in the repository, or made of a file that is no page."""
    file = ROOT / path
    if file.is_dir():
        return _listing(file)
    if file.suffix == ".md":
        return file.read_text()
    language = LANGUAGES.get(file.suffix, "text")
    return f"{NOT_FOUND_BY_SEARCH}# {file.name}\n\n````{language}\n{file.read_text()}\n````\n"


def _listing(folder: Path) -> str:
    """A page that shows what is in a folder, as a page that lies beside the folder."""
    title = f"{NOT_FOUND_BY_SEARCH}# {folder.relative_to(ROOT).as_posix()}/\n\n"
    names = sorted(
        posixpath.relpath(file.as_posix(), folder.parent.as_posix())
        for file in folder.rglob("*")
        if _is_shown(file)
    )
    return title + "".join(f"- [{name}]({name})\n" for name in names)


def _is_shown(file: Path) -> bool:
    if not file.is_file() or "__pycache__" in file.parts or file.name.startswith("."):
        return False
    content = file.read_bytes()
    return 0 < len(content) < 200_000 and b"\0" not in content
