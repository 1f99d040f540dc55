"""Worker processes on a FIFO queue that are killed: the order of each group holds."""

import signal
from functools import partial
from pathlib import Path

import pytest
from commands import Command
from sqs_server import REGION, SQSServer

from deferrable import Deferrable
from deferrable.backend import SQSBackendFactory

MODULE = """
import os
import time
from pathlib import Path
from deferrable import Deferrable, current_attempt
from deferrable.backend import SQSBackendFactory

factory = SQSBackendFactory(wait_time=1, visibility_timeout=2, retry="block")
instance = Deferrable(factory.create_backend_for_group(os.environ["GROUP"]))

@instance.deferrable
def job(value):
    write(f"start {value}")
    time.sleep(0.05)
    if current_attempt().number == 1 and value.endswith("1"):
        raise OSError(value)
    while value == os.environ["HANGS_AT"]:
        time.sleep(0.05)
    write(f"end {value}")

def write(line):
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(line + "\\n")
"""


def note(value: str) -> None:
    """What the producer knows of the job."""


@pytest.fixture
def variables(
    sqs_server: SQSServer, sqs_group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    sqs_server.set_environment(monkeypatch)
    (tmp_path / "ordered.py").write_text(MODULE)
    (tmp_path / "notes").touch()
    return {
        "GROUP": f"{sqs_group}.fifo",
        "NOTES": str(tmp_path / "notes"),
        "AWS_ENDPOINT_URL": sqs_server.url,
        "AWS_DEFAULT_REGION": REGION,
    }


def test_no_item_overtakes_one_whose_worker_was_killed(
    variables: dict[str, str], tmp_path: Path
) -> None:
    values = [f"{group}{number}" for group in "ab" for number in range(4)]
    factory = SQSBackendFactory(visibility_timeout=2)
    with factory.create_backend_for_group(variables["GROUP"]) as backend:
        job = Deferrable(backend).deferrable(
            [OSError], name="ordered:job", use_exponential_backoff=False
        )(note)
        for group in "ab":
            job.options(message_group_id=group).later_many(
                [(each,) for each in values if each[0] == group]
            )

    def notes() -> list[str]:
        return (tmp_path / "notes").read_text().splitlines()

    def has_started(value: str, times: int) -> bool:
        return notes().count(f"start {value}") >= times

    arguments = ("worker", "ordered:instance")
    for hangs_at, starts in [("a1", 2), ("a2", 1)]:
        environment = {**variables, "HANGS_AT": hangs_at}
        with Command(*arguments, variables=environment, folder=tmp_path) as command:
            command.wait_until(partial(has_started, hangs_at, starts), "it hangs")
            command.send(signal.SIGKILL)
    with Command(*arguments, variables={**variables, "HANGS_AT": ""}, folder=tmp_path) as command:
        command.wait_until(lambda: {f"end {each}" for each in values} <= {*notes()}, "all ended")
        command.send(signal.SIGTERM)
        command.end()

    for group in "ab":
        own = [line for line in notes() if line.split()[1][0] == group]
        numbers = [int(line[-1]) for line in own]
        assert numbers == sorted(numbers), own
