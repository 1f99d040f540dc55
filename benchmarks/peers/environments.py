"""The Python environment of each library, made on first use and kept in a cache.

Owns finding a Python that is new enough, making environments and asking what is in them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.catalogue import Peer

__all__ = ["default_cache", "python_of", "versions_of"]

NEWEST_MINOR = 14
INSTALL_SECONDS = 600
LIST = """
import importlib.metadata, json, platform
found = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
print(json.dumps({"python": platform.python_version(), **found}))
"""


def default_cache() -> Path:
    """In the user's own cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base, "deferrable-benchmarks")


def python_of(peer: Peer, cache: Path) -> Path:
    """The interpreter of `peer`'s environment, which is made if it is not there.

    Raises:
        OSError: there is no Python that is new enough.
        subprocess.CalledProcessError: it could not be installed; standard error says why.
    """
    if not peer.needs:
        return Path(sys.executable)
    base = _base_python(peer)
    needs = "\n".join(peer.needs)
    digest = hashlib.sha256(f"{base}\n{needs}".encode()).hexdigest()[:8]
    folder = cache / f"{peer.adapter}-{digest}"
    python, mark = folder / "bin" / "python", folder / "is-whole"
    if not mark.exists():
        print(f"installing {' '.join(peer.needs)}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run(base, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *peer.needs)
        mark.touch()
    return python


def versions_of(python: Path) -> dict[str, str]:
    """Everything installed there, and the version of Python itself."""
    versions: dict[str, str] = json.loads(_run(str(python), "-c", LIST))
    return versions


def _base_python(peer: Peer) -> str:
    if sys.version_info[:2] >= peer.oldest:
        # Of an environment, what it was made from: those of one Python share what is installed.
        return str(Path(sys.executable).resolve())
    for path in _others(peer.oldest[1]):
        if subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode == 0:
            return path
    oldest = ".".join(map(str, peer.oldest))
    raise OSError(f"{peer.name} needs Python {oldest} or later; put one on PATH")


def _others(oldest_minor: int) -> Iterator[str]:
    for minor in range(oldest_minor, NEWEST_MINOR + 1):
        found = shutil.which(f"python3.{minor}")
        if found:
            yield found
        yield from map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))


def _run(*command: str) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
    )
    return done.stdout
