"""The examples of docs/deploying.md: each is read by its own rules, and its command is started."""

import configparser
import itertools
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cli_place import STATS, Place, ask
from commands import Command
from processes import ROOT
from redis_server import free_port

PAGE = (ROOT / "docs" / "deploying.md").read_text()
KUBERNETES = "1.33"
LONGEST_END_SECONDS = 6
"""What a worker needs after its grace period: see docs/command-line.md."""


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Any:
    made = Place(redis_url, tmp_path)
    yield made
    made.close()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def options_of(words: list[str]) -> dict[str, str]:
    return dict(itertools.pairwise(words))


def test_kubernetes_asks_paths_that_the_worker_of_the_example_answers(place: Place) -> None:
    spec = yaml.safe_load(blocks("yaml")[0])["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (port,) = container["ports"]
    words = [*container["command"], *container["args"]]
    assert words[:3] == ["deferrable", "worker", "app.jobs:shop"]
    assert port["containerPort"] == int(options_of(words)["--health-port"])
    grace = float(options_of(words)["--grace"])
    assert spec["terminationGracePeriodSeconds"] >= grace + LONGEST_END_SECONDS
    here, number = {"8081": str(free_port()), "0.0.0.0": "127.0.0.1"}, port["containerPort"]
    options = [here.get(word, word) for word in words[3:]]

    with Command("worker", STATS, *options, variables=place.variables) as command:
        command.wait_for("running (process")
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container[name]["httpGet"]
            assert probe["port"] == port["name"]
            url = f"http://127.0.0.1:{here[str(number)]}{probe['path']}"
            command.wait_until(lambda url=url: ask(url)[0] == 200, f"{name} passes")  # type: ignore[misc]


def test_kubernetes_knows_every_field_of_the_example() -> None:
    deployment = yaml.safe_load(blocks("yaml")[0])

    kubernetes_validate.validate(deployment, KUBERNETES, strict=True)
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSecond"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def probes_by_command() -> list[str]:
    """The shell commands that look at the heartbeat file."""
    probe = yaml.safe_load(blocks("yaml")[1])["livenessProbe"]["exec"]["command"]
    docker = re.search(r"HEALTHCHECK.*?CMD (.*?)\n", blocks("dockerfile")[0], re.DOTALL)
    assert probe[:2] == ["sh", "-c"]
    assert docker is not None
    return [probe[2], docker[1]]


@pytest.mark.parametrize("probe", probes_by_command())
def test_a_probe_by_command_tells_old_from_new(tmp_path: Path, probe: str) -> None:
    file = tmp_path / "heartbeat"
    line = probe.replace("/tmp/heartbeat", str(file))
    assert line != probe

    def passes() -> bool:
        return subprocess.run(["sh", "-c", line], check=False, capture_output=True).returncode == 0

    lacking = passes()
    file.write_text("ready\n")
    fresh = passes()
    subprocess.run(["touch", "-d", "2 minutes ago", str(file)], check=True)

    assert (lacking, fresh, passes()) == (False, True, False)


def test_the_command_of_the_image_starts_a_worker_whose_check_passes(place: Place) -> None:
    found = re.search(r"^CMD (\[.*\])$", blocks("dockerfile")[0], re.MULTILINE)
    assert found is not None
    words, file = yaml.safe_load(found[1]), place.path("heartbeat")
    probe = probes_by_command()[1].replace("/tmp/heartbeat", file)
    options = [file if word == "/tmp/heartbeat" else word for word in words[3:]]
    assert options != words[3:]

    with Command("worker", STATS, *options, variables=place.variables) as command:
        command.wait_until(lambda: Path(file).exists(), "it beats")
        assert subprocess.run(["sh", "-c", probe], check=False).returncode == 0
        command.send(signal.SIGTERM)
        assert command.end() == 0


def test_the_unit_gives_the_worker_time_to_stop_and_to_be_heard(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(blocks("ini")[0])
    service = unit["Service"]
    words = shlex.split(service["ExecStart"])

    assert words[1:3] == ["worker", "app.jobs:shop"]
    assert service["Type"] == "notify"
    assert service.getfloat("WatchdogSec") >= 5
    grace = float(options_of(words)["--grace"])
    assert service.getfloat("TimeoutStopSec") >= grace + LONGEST_END_SECONDS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "shop.service"
    # Programs, folders and users that this machine has.
    text = blocks("ini")[0].replace("/srv/shop/.venv/bin/deferrable", shutil.which("true") or "")
    path.write_text(text.replace("User=shop\n", "").replace("/srv/shop", str(tmp_path)))

    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert "shop.service" not in checked.stderr, checked.stderr
