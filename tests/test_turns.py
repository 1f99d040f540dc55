"""How the tests are shared out: what goes together, and what begins first."""

import turns
from processes import ROOT


def test_each_path_of_the_tables_is_there() -> None:
    paths = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]

    for begin in (*turns.APART, *turns.FIRST):
        assert any(path.startswith(begin) for path in paths), begin


def test_a_module_whose_tests_may_share_a_fixture_stays_together() -> None:
    assert turns.scope_of("tests/test_mutants.py::test_a[b::c]") == "tests/test_mutants.py"
    assert turns.scope_of("tests/test_memory.py::TestA::test_b") == "tests/test_memory.py::TestA"


def test_each_function_of_a_slow_suite_goes_alone_with_its_cases() -> None:
    case = "tests/test_sqs.py::TestSQSQueue::test_a[queue]"

    assert turns.scope_of(case) == "tests/test_sqs.py::TestSQSQueue::test_a"


def test_the_longest_begins_first() -> None:
    ids = ["tests/test_item.py::test_a", "tests/test_sqs.py::test_a", "tests/test_main_job.py::a"]

    assert sorted(ids, key=turns.turn_of) == ids[::-1]
