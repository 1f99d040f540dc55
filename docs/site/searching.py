"""What the search of the built site finds.

Owns the changes of its index: pages come before the API if they fit as well, and attributes, of
which most pages of the API have many, are not found by themselves.
"""

import json
import re
from pathlib import Path

__all__ = ["improve_search"]

LABEL = re.compile(r"\s*<small>.*?</small>")


def improve_search(folder: Path) -> None:
    """Rewrite the index of a built site."""
    index = json.loads((folder / "search.json").read_text())
    items = [each for each in index["items"] if not _is_attribute(each)]
    for each in items:
        each["title"] = LABEL.sub("", each["title"])
    index["items"] = sorted(items, key=lambda each: each["location"].startswith("api/"))
    text = json.dumps(index)
    (folder / "search.json").write_text(text)
    (folder / "search.js").write_text(f"var __index = {text}")  # for a site that is read from files


def _is_attribute(item: dict[str, str]) -> bool:
    return item["location"].startswith("api/") and "-attribute</code>" in item["title"]
