"""The door of deferrable.testing: what it needs, and what it says when that is missing."""

import subprocess
import sys

from processes import DEADLINE_SECONDS

import deferrable.testing


def run(script: str) -> str:
    """What a fresh interpreter without pytest prints."""
    without_pytest = "import sys; sys.modules['pytest'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", without_pytest + script],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_clock_and_the_faults_need_no_pytest() -> None:
    printed = run(
        "from deferrable.testing import Faults, FaultyQueue, MovingClock, wait_until\nprint('here')"
    )

    assert printed == "here"


def test_the_suite_says_that_it_needs_pytest() -> None:
    printed = run(
        "try: from deferrable.testing import QueueConformance\nexcept ImportError as e: print(e)"
    )

    assert "install pytest" in printed


def test_every_public_name_can_be_had() -> None:
    names = deferrable.testing.__all__

    assert set(names) <= set(dir(deferrable.testing))
    assert all(getattr(deferrable.testing, name) is not None for name in names)
