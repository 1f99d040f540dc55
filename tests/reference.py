"""The table of options in the documentation, made of their declaration.

Run ``python tests/reference.py`` after a change of `deferrable.options`. It writes the table into
`docs/options.md`; a test compares the two.
"""

import re
from pathlib import Path

from deferrable.aio._decorating import MEANINGS, SIGNATURE

PAGE = Path(__file__).parent.parent / "docs" / "options.md"
TABLE = re.compile(r"(?<=\| option \| default \| meaning \|\n\| --- \| --- \| --- \|\n)(?:\|.*\n)+")


def rows() -> str:
    """A row for each option of the decorator, in its order."""
    return "".join(
        f"| `{each.name}` | `{each.default}` | {MEANINGS[each.name].replace('``', '`')} |\n"
        for each in list(SIGNATURE.parameters.values())[1:]
    )


def rewritten(text: str) -> str:
    """The page's `text` with the table as it should be."""
    changed, count = TABLE.subn(lambda _: rows(), text)
    assert count == 1, f"the page has {count} tables of options"
    return changed


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
