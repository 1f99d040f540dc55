"""How the tests are shared out: what goes together, and what begins first."""

import ast
from collections.abc import Iterator

import pytest
import turns
from processes import ROOT


def test_each_path_of_the_tables_is_there() -> None:
    paths = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]

    for begin in (*turns.APART, *turns.FIRST):
        assert any(path.startswith(begin) for path in paths), begin


def test_each_path_that_other_pythons_run_is_there() -> None:
    (paths,) = (
        node.value
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PYTHON_TESTS"
    )

    for path in eval(ast.unparse(paths)):
        assert (ROOT / path).exists(), path


def test_a_module_whose_tests_may_share_a_fixture_stays_together() -> None:
    assert turns.scope_of("tests/test_mutants.py::test_a[b::c]") == "tests/test_mutants.py"
    assert turns.scope_of("tests/test_memory.py::TestA::test_b") == "tests/test_memory.py::TestA"


def test_each_function_of_a_slow_suite_goes_alone_with_its_cases() -> None:
    case = "tests/test_sqs.py::TestSQSQueue::test_a[queue]"

    assert turns.scope_of(case) == "tests/test_sqs.py::TestSQSQueue::test_a"


def test_the_longest_begins_first() -> None:
    ids = ["tests/test_item.py::test_a", "tests/test_sqs.py::test_a", "tests/test_main_job.py::a"]

    assert sorted(ids, key=turns.turn_of) == ids[::-1]


def test_no_cases_are_given_as_a_set() -> None:
    """Its order differs from worker to worker, and pytest-xdist then runs no test at all."""
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text())
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name}:{line}" for line in cases_in_a_set(tree)]

    assert found == []


@pytest.mark.parametrize("cases", ["{1, 2}", "set(THINGS)", "A", "{n for n in A}"])
def test_cases_that_are_a_set_are_found(cases: str) -> None:
    source = f"A = {{1, 2}}\npytest.mark.parametrize('name', {cases})"

    assert list(cases_in_a_set(ast.parse(source))) == [2]


@pytest.mark.parametrize("cases", ["[1, 2]", "sorted(A)", "B", "{1: 2}"])
def test_other_cases_are_left_alone(cases: str) -> None:
    source = f"A = {{1, 2}}\nB = (1, 2)\npytest.mark.parametrize('name', {cases})"

    assert not list(cases_in_a_set(ast.parse(source)))


def cases_in_a_set(tree: ast.Module) -> Iterator[int]:
    """The lines of those ``parametrize`` whose cases are a set, or a name for one."""
    sets = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and is_set(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("parametrize"):
            for cases in node.args[1:2]:
                if is_set(cases) or (isinstance(cases, ast.Name) and cases.id in sets):
                    yield node.lineno


def is_set(node: ast.expr) -> bool:
    is_made = isinstance(node, ast.Call) and ast.unparse(node.func) in ("set", "frozenset")
    return is_made or isinstance(node, ast.Set | ast.SetComp)
