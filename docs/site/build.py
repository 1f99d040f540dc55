"""Builds the documentation site and checks it: ``nox -s docs``.

Owns the order of the steps and the folder `build/site`. Any warning or problem ends it with a
failure.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from api import write_api
from checks import problems_of_names, problems_of_navigation, problems_of_site
from searching import improve_search
from sources import write_sources

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
SILENT = re.compile(r"Build started\nNo issues found\nBuild finished in [\d.]+m?s\s*")
"""What zensical says of a site without a warning. It gives no warning an exit status."""


def build(folder: Path) -> list[str]:
    """Build the site in a `folder`, as its part `html`, and return its problems."""
    shutil.rmtree(folder, ignore_errors=True)
    source, html = folder / "source", folder / "html"
    source.mkdir(parents=True)
    write_sources(source)
    names = write_api(source / "api")
    (folder / "names.txt").write_text("\n".join(names))
    shutil.copy(HERE / "docstrings.py", folder)
    shutil.copytree(HERE / "theme", folder / "theme")
    config = shutil.copy(HERE / "zensical.toml", folder)
    nav = tomllib.loads(Path(config).read_text())["project"]["nav"]
    pages = {page.relative_to(source).as_posix() for page in source.rglob("*.md")}
    problems = problems_of_navigation(nav, pages)
    command = ["zensical", "build", "--clean", "--config-file", config]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    (html / "404.html").unlink(missing_ok=True)  # its links begin at the host
    said = COLOURS.sub("", done.stdout)
    if done.returncode or not SILENT.fullmatch(said):
        problems.append(f"zensical says:\n{said}")
    improve_search(html)
    return [*problems, *problems_of_site(html), *problems_of_names(names, html / "api")]


def main() -> None:
    folder = ROOT / "build" / "site"
    problems = build(folder)
    if problems:
        sys.exit("\n".join([*problems, f"{len(problems)} problems in the documentation site"]))
    print(f"built {folder / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
