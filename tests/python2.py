"""The real Python 2.7, for tests of what both generations share.

Owns finding it and running a piece of source in it. Tests that need one skip by name where there
is none; what they check is then covered by strings that a real 2.7.18 wrote once.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from processes import DEADLINE_SECONDS


@cache
def find_python2() -> str | None:
    """Return the path of a Python 2.7: $DEFERRABLE_PYTHON2, python2.7 on PATH, or pyenv's.

    One that does not start (pyenv puts a stub on PATH for every version it ever had) is none.
    """
    return next(filter(_is_python2, _candidates()), None)


def _candidates() -> Iterator[str]:
    yield os.environ.get("DEFERRABLE_PYTHON2") or ""
    yield shutil.which("python2.7") or ""
    versions = Path(os.environ.get("HOME", "/")) / ".pyenv" / "versions"
    yield from map(str, sorted(versions.glob("2.7*/bin/python2.7"), reverse=True))


def _is_python2(path: str) -> bool:
    if not path:
        return False
    source = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        return (
            subprocess.run([path, "-c", source], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def run_python2(source: str, *args: str, input: str | None = None) -> str:  # noqa: A002
    """Return what ``source`` printed, run by Python 2 with ``args`` as ``sys.argv[1:]``.

    Raises:
        AssertionError: it failed; the message is what it wrote to stderr.
    """
    python2 = find_python2()
    if python2 is None:
        pytest.skip("there is no Python 2.7: set DEFERRABLE_PYTHON2 to one")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(
        [python2, "-c", source, *args],
        input=input,
        capture_output=True,
        encoding="utf-8",
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


requires_python2 = pytest.mark.skipif(
    find_python2() is None, reason="there is no Python 2.7: set DEFERRABLE_PYTHON2 to one"
)
