"""The reference pages have everything that the code has, and nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from processes import ROOT
from reference import PARTS, rewritten

from deferrable.cli.app import EPILOG
from deferrable.cli.command_error import ERROR, FORCED, USAGE
from deferrable.events import EVENTS
from deferrable.handles import CallStatus
from deferrable.outcome import OutcomeStatus, ReceiptStatus

SOURCES = sorted((ROOT / "deferrable").rglob("*.py"))


def rows(page: str, head: str) -> list[list[str]]:
    """The rows of the tables of a page whose first column is called `head`."""
    found = []
    text = (ROOT / "docs" / page).read_text()
    for table in re.findall(rf"^\| {head} \|.*\n\|.*\n((?:\|.*\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def names(page: str, head: str) -> list[str]:
    """The code words in the first column of these tables."""
    return [name for first, *_ in rows(page, head) for name in re.findall("`(.*?)`", first)]


@pytest.mark.parametrize("page", PARTS)
def test_tables_are_made_from_the_code(page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == rewritten(page), "run python tests/reference.py"


@pytest.mark.parametrize(
    ("page", "head", "known"),
    [
        ("events.md", "event", EVENTS),
        ("outcomes.md", "status of an outcome", get_args(OutcomeStatus)),
        ("outcomes.md", "status of a receipt", get_args(ReceiptStatus)),
        ("handles.md", "`status`", get_args(CallStatus)),
    ],
)
def test_table_names_each_once(page: str, head: str, known: Any) -> None:
    assert sorted(names(page, head)) == sorted(known)


def test_every_exit_code_is_explained() -> None:
    codes = {int(code) for code, _ in rows("commands.md", "exit code")}

    assert codes == {0, ERROR, USAGE, FORCED}
    assert codes == {int(code) for code in re.findall(r"\d", EPILOG)}


# Environment variables: what the package reads is what the page names.


def variables_in(source: Path) -> Iterator[str]:
    """The names of environment variables in a module: ours, and those of an `environ`."""
    for node in ast.walk(ast.parse(source.read_text())):
        match node:
            case ast.Constant(value=str(text)) if re.fullmatch("DEFERRABLE_[A-Z0-9_]+", text):
                yield text
            case ast.Call(func=ast.Attribute(value=holder, attr="get" | "pop"), args=[name, *_]):
                yield from _names_in(name, holder)
            case ast.Subscript(value=holder, slice=name):
                yield from _names_in(name, holder)
            case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[holder]):
                yield from _names_in(name, holder)
            case ast.BinOp(left=names, op=ast.BitAnd(), right=holder):
                yield from _names_in(names, holder)


def _names_in(names: ast.expr, holder: ast.expr) -> Iterator[str]:
    if re.search(r"\benviron(ment)?\b", ast.unparse(holder)):
        yield from (
            node.value
            for node in ast.walk(names)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )


def test_every_variable_that_is_read_is_on_the_page() -> None:
    found = {name for source in SOURCES for name in variables_in(source)}
    # Click makes this name of the program's.
    assert names("environment.md", "variable") != []
    assert found | {"_DEFERRABLE_COMPLETE"} == set(names("environment.md", "variable"))


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['A_NAME']",
        "os.environ.get('A_NAME', '')",
        "'A_NAME' in os.environ",
        "bool({'A_NAME'} & os.environ.keys())",
        "environment.get('A_NAME')",
    ],
)
def test_variable_is_found_however_it_is_read(line: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(line)

    assert list(variables_in(tmp_path / "module.py")) == ["A_NAME"]
