"""The README's table of options, made of their declaration.

Run ``python tests/reference.py`` after a change of `deferrable.options`. It writes the table into
the README; a test compares the two.
"""

import re
from pathlib import Path

from deferrable.aio._decorating import MEANINGS, SIGNATURE

README = Path(__file__).parent.parent / "README.md"
TABLE = re.compile(r"(?<=\| option \| default \| meaning \|\n\| --- \| --- \| --- \|\n)(?:\|.*\n)+")


def rows() -> str:
    """A row for each option of the decorator, in its order."""
    return "".join(
        f"| `{each.name}` | `{each.default}` | {MEANINGS[each.name].replace('``', '`')} |\n"
        for each in list(SIGNATURE.parameters.values())[1:]
    )


def rewritten(text: str) -> str:
    """The README's `text` with the table as it should be."""
    changed, count = TABLE.subn(lambda _: rows(), text)
    assert count == 1, f"the README has {count} tables of options"
    return changed


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
