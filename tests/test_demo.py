"""The demo prints the same every time, and says all that it promises."""

import subprocess
import sys
from pathlib import Path

from processes import DEADLINE_SECONDS

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"
SCENES = ["RUN NOW", "DELAYED", "DEBOUNCED", "RETRIED", "EXPIRED", "FAILED", "REQUEUED"]


def run_demo() -> str:
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=DEMO.parent,
        env={"PYTHONPATH": str(DEMO.parents[1])},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_demo_has_its_seven_scenes_each_with_a_line_on_what_it_means() -> None:
    heads = [line for line in run_demo().splitlines() if line[:3].isupper()]

    assert [head[:12].strip() for head in heads] == SCENES
    assert all(len(head) > 40 for head in heads)


def test_the_demo_fits_a_narrow_terminal() -> None:
    assert max(map(len, run_demo().splitlines())) < 100


def test_the_demo_prints_the_same_every_time() -> None:
    assert run_demo() == run_demo()
