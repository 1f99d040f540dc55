"""The examples of embedding do what they say: real processes, a real Redis, real signals."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from commands import DEADLINE_SECONDS, environment

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "embedding.md").read_text()


def run_python(folder: Path, *arguments: str, variables: Mapping[str, str]) -> str:
    """What a program prints, which must succeed and leave its standard error empty."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}{done.stderr}"
    return done.stdout


# The plain script.


def test_the_plain_script_prints_an_answer_for_each_call_and_ends() -> None:
    printed = run_python(EXAMPLES, "plain_script.py", variables={})

    assert printed.splitlines() == ["completed: 3", "errored: 7 is odd", "completed: 4"]


# The page.


def test_the_page_on_embedding_shows_the_examples_as_they_are() -> None:
    texts = [path.read_text() for path in EXAMPLES.rglob("*.py")]
    shown = re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    assert len(shown) == 1
    for block in shown:
        assert any(block in text for text in texts), block
