"""The unit of docs/deploying.md under a real systemd: a user's manager, in its own mount namespace.

It needs root, for the namespace, because systemd looks in /run whether it may run.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_place import STATS, Place
from processes import DEADLINE_SECONDS, ROOT
from test_deploying import blocks

MANAGER = Path("/lib/systemd/systemd")
NAME = "shop.service"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not MANAGER.exists() or shutil.which("unshare") is None,
    reason="it needs root, unshare and systemd",
)


class Manager:
    """A running systemd with one unit."""

    def __init__(self, folder: Path, unit: str) -> None:
        units = folder / "config" / "systemd" / "user"
        units.mkdir(parents=True)
        (units / NAME).write_text(unit)
        self._environment = {
            "PATH": os.environ["PATH"],
            "XDG_RUNTIME_DIR": "/run/user/0",
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        script = (
            "mount -t tmpfs none /run && mkdir -p -m 700 /run/systemd/system /run/user/0 && "
            f"exec {MANAGER} --user"
        )
        self._log = (folder / "systemd.log").open("w")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def control(self, *words: str) -> str:
        """What ``systemctl --user`` prints."""
        inside = f"nsenter --mount --target {self.process.pid} systemctl --user".split()
        done = subprocess.run(
            [*inside, *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
        )
        return done.stdout.strip() or done.stderr.strip()

    def shown(self, name: str) -> str:
        """A property of the unit."""
        return self.control("show", "--value", f"--property={name}", NAME)

    def wait_until(self, name: str, *values: str) -> str:
        """The property, once it has one of these values."""
        end_time = time.monotonic() + DEADLINE_SECONDS
        while (seen := self.shown(name)) not in values:
            state = self.control("status", NAME)
            assert time.monotonic() < end_time, f"{name} is {seen!r}: {state}"
            time.sleep(0.1)
        return seen

    def end(self) -> None:
        self.control("stop", NAME)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._log.close()


def unit(place: Place, *, extra: str = "", **changes: str) -> str:
    """The unit of the page, for a worker of this machine."""
    text = re.sub(r"^User=.*\n", "", blocks("ini")[0], flags=re.MULTILINE)
    text = text.replace("/srv/shop/.venv/bin/deferrable", f"{sys.executable} -m deferrable")
    text = text.replace("app.jobs:shop", f"{STATS} {extra}")
    text = text.replace("/srv/shop", str(ROOT / "tests"))
    for name, value in changes.items():
        text = re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
    variables = {**place.variables, "PYTHONPATH": str(ROOT)}
    lines = "".join(f'Environment="{name}={value}"\n' for name, value in variables.items())
    return text.replace("[Service]\n", f"[Service]\n{lines}")


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Any:
    made = Place(redis_url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def managers() -> Iterator[list[Manager]]:
    made: list[Manager] = []
    yield made
    for each in made:
        each.end()


def test_systemd_starts_the_unit_hears_that_it_is_ready_and_stops_it_in_order(
    place: Place, tmp_path: Path, managers: list[Manager]
) -> None:
    managers.append(manager := Manager(tmp_path, unit(place)))
    manager.wait_until("ActiveState", "inactive")

    manager.control("start", NAME)

    # With Type=notify, `start` waits for READY=1.
    assert manager.shown("ActiveState") == "active"
    assert manager.shown("StatusText") == "working"
    manager.control("stop", NAME)
    assert manager.shown("ActiveState") == "inactive"
    assert manager.shown("Result") == "success"
    assert manager.shown("ExecMainStatus") == "0"


def test_systemd_replaces_a_worker_that_is_stuck(
    place: Place, tmp_path: Path, managers: list[Manager]
) -> None:
    changed = unit(place, extra="--stuck-seconds 1", WatchdogSec="5", TimeoutStopSec="5")
    managers.append(manager := Manager(tmp_path, changed))
    manager.wait_until("ActiveState", "inactive")
    manager.control("start", NAME)
    first = manager.shown("MainPID")

    place.defer("hold_the_loop", place.path("started"))

    manager.wait_until("NRestarts", "1", "2")
    manager.wait_until("ActiveState", "active")
    assert manager.shown("MainPID") not in (first, "0")
