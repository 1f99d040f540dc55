"""What a missing extra says. The library itself is imported without any of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WITHOUT = """
import sys
sys.modules[{package!r}] = None
import deferrable, deferrable.aio, deferrable.backend, deferrable.aio.backend
from deferrable.aio import Deferrable
from deferrable.backend import InMemoryBackendFactory
try:
    {use}
except ImportError as error:
    print(error)
"""
USES = {
    "a blocking backend": "deferrable.backend.DocketsBackendFactory('redis://localhost')",
    "a backend that awaits": "deferrable.aio.backend.DocketsBackendFactory('redis://localhost')",
    "a debounce store": (
        "deferrable.Deferrable("
        "InMemoryBackendFactory().create_backend_for_group(None), 'redis://localhost')"
    ),
}


@pytest.mark.parametrize("package", ["redis", "hiredis"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_missing_extra_is_named(package: str, use: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package=package, use=use)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.stderr == ""
    assert f"needs the package '{package}'" in done.stdout
    assert "pip install 'deferrable[redis]'" in done.stdout
