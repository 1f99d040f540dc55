"""Which tests go to a worker of pytest-xdist together, and which begin first.

Owns the scheduler of ``--dist loadscope``. The tests of a module or class go together, because they
may share a fixture. Where they share none and take long, each function goes alone: else one worker
would still run SQS's conformance suite when all others have ended. What waits for programs and
servers begins first, beside what computes.
"""

from typing import Any

import pytest

__all__ = ["pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]

APART = (
    "tests/attacks/test_cancel_everywhere.py",
    "tests/attacks/test_chaos.py",
    "tests/test_cli",
    "tests/test_interrupts.py",
    "tests/test_portal.py",
    "tests/test_sqs",
    "tests/test_worker_signals.py",
    "tests/test_worker_trouble.py",
)
"""How the paths begin of which each function goes alone. None has a fixture for a whole module that
is dear."""

FIRST = (
    "tests/attacks/test_chaos.py",
    "tests/test_main_job.py",
    "tests/test_cli_worker.py",
    "tests/test_readme.py",
    "tests/test_sqs_faults.py",
    "tests/test_sqs.py",
    "tests/attacks/test_bad_bytes.py",
    "tests/test_examples.py",
    "tests/test_benchmarks.py",
    "tests/test_mutants.py",
    *APART,
)
"""How the paths begin of what takes longest, the longest first."""


def scope_of(nodeid: str) -> str:
    """What goes together has the same scope."""
    function = nodeid.partition("[")[0]
    return function if nodeid.startswith(APART) else function.rpartition("::")[0]


def turn_of(nodeid: str) -> int:
    """Its place in the order."""
    places = [place for place, path in enumerate(FIRST) if nodeid.startswith(path)]
    return min(places, default=len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The scheduler of ``--dist loadscope``; None for others, which xdist makes itself."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    config.option.loadscopereorder = False  # It has the fewest tests last, which take longest.
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put what takes longest first, if several workers share the tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: turn_of(item.nodeid))
