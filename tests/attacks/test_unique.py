"""Producers and consumers of unique calls are killed, and no key is left behind.

The short version of ``attacks.unique``.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import DEADLINE_SECONDS, ROOT
from sizes import IS_FULL, sized

from attacks.unique import PLACES


@pytest.mark.parametrize("place", PLACES if IS_FULL else PLACES[:2])
def test_no_key_is_left_and_none_is_held_twice_after_kills(place: str) -> None:
    # In a program: it forks, which the threads of other tests would not survive.
    done = subprocess.run(
        [sys.executable, "-m", "attacks.unique", "--place", place, "--kills", str(sized(1, 300))],
        cwd=Path(__file__).parents[1],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        timeout=10 * DEADLINE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
