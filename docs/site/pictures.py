"""Draws pages of the built site: ``python docs/site/pictures.py FOLDER``, after ``nox -s docs``.

Owns which pages are drawn, in both themes and on a phone. It also uses the search as a reader does,
and fails if a page asks for anything but files. It needs a Chromium and the package playwright.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "build" / "site" / "html"
PAGES = ["index", "concepts", "options", "redis", "api/asyncio"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def open_pages(browser: Browser, foreign: list[str]) -> Iterator[tuple[str, Page]]:
    """A browser window for each theme and size; `foreign` gets requests to other places."""
    for theme in ("light", "dark"):
        for size, (width, height) in SIZES.items():
            page = browser.new_page(
                color_scheme=theme, viewport={"width": width, "height": height}, offline=True
            )
            page.on("request", lambda request: note(request.url, foreign))
            yield f"{theme}-{size}", page
            page.close()


def note(url: str, foreign: list[str]) -> None:
    if not url.startswith(("file:", "data:", "blob:", "about:")):
        foreign.append(url)


def search(page: Page, text: str) -> list[str]:
    """The first line of each thing that the search of the open page finds."""
    page.keyboard.press("/")
    page.get_by_role("combobox").fill(text)
    found = page.get_by_role("option")
    found.first.wait_for()
    return [each.partition("\n")[0] for each in found.all_inner_texts()]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    foreign: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, BROWSERS)), None),
            args=["--no-sandbox"],
        )
        for kind, page in open_pages(browser, foreign):
            for name in PAGES:
                page.goto((HTML / f"{name}.html").as_uri())
                page.screenshot(path=folder / f"{name.replace('/', '-')}-{kind}.png")
            print(f"{kind}: debounce is found in {search(page, 'debounce')[:3]}")
            page.screenshot(path=folder / f"search-{kind}.png")
        browser.close()
    if foreign:
        sys.exit(f"the site asks other hosts: {', '.join(sorted(set(foreign)))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
