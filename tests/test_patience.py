"""No test depends on how fast the machine is.

Owns what the tests' own source may not say: it sleeps on the real clock, reads it to judge how long
something took, waits with a deadline that a busy machine can miss, or lets Hypothesis judge by it.
What must do so stands in a table, with the reason.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
LEAST_DEADLINE_SECONDS = 30
"""Only what hangs should reach a deadline. A shorter one is for what is meant to run out."""

SLEEPS = {
    "attacks/": "an attack's faults last for a time",
    "cli_app/jobs.py": "its jobs wait for a file, or hang",
    "commands.py": "polls a condition",
    "faces.py": "polls a condition",
    "mutants/": "the planted bug is a delay",
    "processes.py": "polls until a program waits",
    "redis_proxy.py": "it is a wire that is slow on purpose",
    "redis_server.py": "polls a server that starts",
    "redis_topologies.py": "polls servers that start",
    "localstack_sqs.py": "asks a server until it answers",
    "second_sqs.py": "polls what it receives for others",
    "sqs_redrive.py": "asks for a task of a server that is not ours",
    "sqs_times.py": "an SQS that is not ours has no clock to move",
    "test_sqs_retries.py": "an answer is late on purpose",
    "test_cli_worker.py": "writes a job that polls for a file, and one that hangs",
    "test_dockets_protocol.py": "polls for what comes back after a second",
    "test_frozen_clock.py": "its job takes a moment of real time",
    "test_handle_cancel.py": "its jobs take a moment, so that a cancel races them",
    "test_redis_full.py": "its job outlasts its lease",
    "test_redis_link.py": "gives up at ever later moments",
    "test_results.py": "waits a little for what must not happen, and for a cancellation to strike",
    "test_sqlite_trouble.py": "waits a little for what must not happen, and for a short delay",
    "test_sqs_leases.py": "polls between two moves of the clock",
    "test_sqs_receiving.py": "its jobs end one by one",
    "test_sqs_stop.py": "polls in the proxy's thread",
    "test_tasks.py": "the sleep is cancelled",
    "otlp_place.py": "polls a collector that starts",
    "test_systemd.py": "polls what systemd says of a unit",
    "test_worker_alone.py": "waits a little for what must not happen",
    "test_worker_groups.py": "waits a little for what must not happen",
    "test_worker_prefetch.py": "its job is as long as the promise is about",
    "worker_app.py": "its jobs wait for a file, or last for a time",
    "worker_processes.py": "polls what a program prints",
}
"""File or folder -> why it sleeps on the real clock."""

READINGS = {
    "localstack_sqs.py": "its deadline",
    "sqs_redrive.py": "its deadline",
    "second_sqs.py": "its own long poll, which ends by the real time",
    "sqs_server.py": "moto's own long poll, which ends by the real time",
    "attacks/": "tells how long an attack took",
    "commands.py": "its deadline",
    "faces.py": "its deadline",
    "mutants/run.py": "has deadlines come sooner",
    "redis_server.py": "its deadline",
    "redis_topologies.py": "its deadline",
    "otlp_place.py": "its deadline",
    "test_systemd.py": "its deadline",
    "test_results.py": "looks that a wait does not last for its own deadline",
    "test_clock_skew.py": "looks that nothing runs too early; how late is not judged",
    "worker_processes.py": "its deadline, and when a program printed what",
}
"""File or folder -> why it reads the monotonic clock."""

SHORT_DEADLINES = {
    "test_cancellation.py": "the time-out is what is tested",
    "test_redis_link.py": "the server is frozen: the deadline is what is tested",
    "test_cli_streams.py": "polls for a file, beside a process that a timer ends",
    "test_pause.py": "waits a little for what must not happen",
    "test_sqs_loops.py": "waits a little for what must not happen",
    "test_sqs_receiving.py": "half of a client's own limit, which must not be waited for",
    "test_watchdog.py": "waits a little for what must not happen",
    "test_worker_burst.py": "waits a little for what must not happen",
}
"""File -> why a deadline in it is short."""

WAITS = {"wait_for", "timeout", "fail_after", "move_on_after", "wait", "join"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call with the last name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute):
                yield function.attr, node
            elif isinstance(function, ast.Name):
                yield function.id, node


def number(node: ast.expr | None) -> float | None:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type] # it is one of these
    return None


def sleeps(tree: ast.AST) -> Iterator[int]:
    """The lines that sleep: for longer than one turn of the loop, on no clock of a test's."""
    for name, call in calls(tree):
        if name == "sleep" and isinstance(call.func, ast.Attribute):
            module = call.func.value
            is_real = isinstance(module, ast.Name) and module.id in ("asyncio", "time", "anyio")
            if is_real and number(call.args[0]) != 0:
                yield call.lineno


def readings(tree: ast.AST) -> Iterator[int]:
    """The lines that read a clock which only serves to measure."""
    for name, call in calls(tree):
        is_clock = name in ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
        if is_clock and ast.unparse(call.func) in (name, f"time.{name}"):
            yield call.lineno


def short_deadlines(tree: ast.AST) -> Iterator[int]:
    for name, call in calls(tree):
        words = {"timeout", "deadline_seconds"} if name in WAITS else {"deadline_seconds"}
        given = [each.value for each in call.keywords if each.arg in words]
        # A program's own `wait_for` takes a line, and how often it comes.
        if name in WAITS and (name != "wait_for" or ast.unparse(call.func) == "asyncio.wait_for"):
            given += call.args[:2]
        found = [number(each) for each in given]
        if any(each is not None and 0 < each < LEAST_DEADLINE_SECONDS for each in found):
            yield call.lineno


def impatient_examples(tree: ast.AST) -> Iterator[int]:
    """The lines that let Hypothesis judge by the clock."""
    for _, call in calls(tree):
        for keyword in call.keywords:
            text = ast.unparse(keyword.value)
            if keyword.arg == "deadline" and text != "None":
                yield call.lineno
            if keyword.arg == "suppress_health_check" and not (
                "too_slow" in text or text.startswith("list(")
            ):
                yield call.lineno


Finder = Callable[[ast.AST], Iterator[int]]


def found(finder: Finder, allowed: dict[str, str]) -> list[str]:
    """Where `finder` finds something that the table lacks, and which entries it met."""
    wrong = []
    for path in sorted(TESTS.rglob("*.py")):
        name = path.relative_to(TESTS).as_posix()
        if not name.startswith(tuple(allowed)):
            lines = finder(ast.parse(path.read_text()))
            wrong += [f"{name}:{line}" for line in lines]
    return wrong


@pytest.mark.parametrize(
    ("finder", "allowed"),
    [
        (sleeps, SLEEPS),
        (readings, READINGS),
        (short_deadlines, SHORT_DEADLINES),
        (impatient_examples, {}),
    ],
    ids=["sleeps", "measures", "has short deadlines", "has a Hypothesis deadline"],
)
def test_no_test_depends_on_the_speed_of_the_machine(
    finder: Finder, allowed: dict[str, str]
) -> None:
    assert found(finder, allowed) == []


def test_hypothesis_judges_no_example_by_the_clock() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


@pytest.mark.parametrize(
    ("finder", "text"),
    [
        (sleeps, "time.sleep(0.01)"),
        (sleeps, "async def f():\n    await asyncio.sleep(seconds)"),
        (readings, "assert time.monotonic() - start < 1"),
        (short_deadlines, "asyncio.wait_for(task, 5)"),
        (short_deadlines, "asyncio.wait([task], timeout=1)"),
        (short_deadlines, "process.wait(20)"),
        (short_deadlines, "asyncio.timeout(0.5)"),
        (short_deadlines, "wait_until(done, 'it is done', deadline_seconds=5)"),
        (impatient_examples, "settings(deadline=500)"),
        (impatient_examples, "settings(suppress_health_check=[HealthCheck.data_too_large])"),
    ],
)
def test_what_depends_on_the_speed_of_the_machine_is_found(finder: Finder, text: str) -> None:
    assert list(finder(ast.parse(text)))


@pytest.mark.parametrize(
    ("finder", "text"),
    [
        (sleeps, "asyncio.sleep(0)"),
        (sleeps, "sleep(clock, 5)"),
        (readings, "clock.monotonic()"),
        (short_deadlines, "asyncio.wait_for(task, 30)"),
        (short_deadlines, "process.wait(DEADLINE_SECONDS)"),
        (short_deadlines, "DocketsBackendFactory(url, timeout=3)"),
        (short_deadlines, "', '.join(names)"),
        (short_deadlines, "worker.wait_for('run', 3)"),
        (impatient_examples, "settings(max_examples=5, suppress_health_check=list(HealthCheck))"),
    ],
)
def test_what_does_not_is_left_alone(finder: Finder, text: str) -> None:
    assert not list(finder(ast.parse(text)))
