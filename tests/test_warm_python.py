"""A program from a warm Python is one like any other."""

import os
import signal
import sys
from pathlib import Path

import pytest
from processes import DEADLINE_SECONDS, ROOT, Program
from warm_python import run_python, start_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are forked on Linux")

FACTS = """
import os, signal, sys, threading, warnings
from sys import modules
print("deferrable" in modules, "redis" in modules, threading.active_count())
print(threading.main_thread() is threading.current_thread())
print(__name__, sys.argv, sys.orig_argv, sys.path, sys.warnoptions, sys.dont_write_bytecode)
print([(each[0], each[2].__name__, each[3] or "") for each in warnings.filters][:3])
print(sorted(os.environ.items()), os.getcwd(), sorted(os.listdir("/proc/self/fd"))[:4])
print([signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)])
print(os.getppid(), os.getsid(0), os.getpgid(0), sys.stdin.read(), sys.stdout.encoding)
print(sys.stdin.encoding, sys.stderr.encoding, sys.stdout.errors, sys.stderr.errors)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", FACTS, "one", "two"],
        ["-W", "always", "-c", FACTS],
        ["facts.py", "one"],
        ["-m", "facts", "two"],
    ],
    ids=["text", "warnings", "file", "module"],
)
def test_what_it_sees_of_itself_is_the_same(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "facts.py").write_text(FACTS)
    known = {name: each for name, each in os.environ.items() if name.startswith(("PYTHON", "L"))}
    env = {**known, "PYTHONPATH": f"{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", "A": "b"}
    env |= {"PYTHONIOENCODING": "latin-1"}

    warm, cold = (
        run_python(
            arguments,
            is_warm=is_warm,
            answer="said",
            cwd=tmp_path,
            env=env,
            timeout=DEADLINE_SECONDS,
        )
        for is_warm in (True, False)
    )

    assert (warm.returncode, warm.stderr) == (cold.returncode, cold.stderr) == (0, "")
    assert warm.stdout.replace("False True 1\n", "False False 1\n", 1) == cold.stdout
    assert warm.stdout.startswith("False True 1\nTrue\n")


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("import atexit; atexit.register(print, 'end', flush=True)", 0, "end\n"),
        ("import threading; threading.Timer(0.01, print, ['late']).start()", 0, "late\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, ""),
        ("1 / 0", 1, ""),
    ],
)
def test_its_end_is_the_one_of_the_program(source: str, code: int, says: str) -> None:
    done = run_python(["-c", source], env=os.environ, timeout=DEADLINE_SECONDS)

    assert (done.returncode, done.stdout) == (code, says)
    assert ("ZeroDivisionError" in done.stderr) == (source == "1 / 0")


def test_it_is_a_child_that_gets_signals() -> None:
    with Program("print('up', flush=True); import signal; signal.pause()") as program:
        program.wait_for("up")
        program._process.send_signal(signal.SIGTERM)

        assert program._process.wait(DEADLINE_SECONDS) == -signal.SIGTERM


def test_children_of_a_program_that_was_killed_do_not_come_here() -> None:
    source = """
import os, signal, sys, time
parent = os.getpid()
if os.fork():
    signal.pause()
print("up", flush=True)
while os.getppid() == parent:
    time.sleep(0.01)
print(os.getppid())
"""
    with start_python(["-c", source], env=os.environ, text=True, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()

        assert int(process.stdout.readline()) != os.getpid()


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "PYTHONUNBUFFERED", "LC_ALL"])
def test_what_is_read_as_python_starts_has_it_started(variable: str) -> None:
    env = {**os.environ, variable: "1" if variable != "LC_ALL" else "C"}
    env = env if env != dict(os.environ) else {k: v for k, v in env.items() if k != variable}
    source = "from sys import modules; print('redis' in modules)"

    done = run_python(["-c", source], env=env, timeout=DEADLINE_SECONDS)

    assert done.stdout == "False\n"


def test_a_module_of_the_program_comes_before_a_library(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("print('mine')")

    done = run_python(
        ["-c", "import click"], cwd=tmp_path, env=os.environ, timeout=DEADLINE_SECONDS
    )

    assert done.stdout == "mine\n"
