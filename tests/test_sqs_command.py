"""The command line on SQS: a worker's polls, how it is left at once, and a look at errors."""

import json
import re
import signal
from pathlib import Path

import pytest
from commands import Command, call_command
from processes import ROOT
from sqs_proxy import Proxy, hang
from sqs_server import REGION, SQSServer

from deferrable import Deferrable
from deferrable.backend import SQSBackendFactory
from deferrable.cli.command_error import FORCED

MODULE = """
import os
from deferrable import Deferrable
from deferrable.backend import SQSBackendFactory

instance = Deferrable(SQSBackendFactory().create_backend_for_group(os.environ["GROUP"]))

@instance.deferrable
def job(): ...
"""


@pytest.fixture
def variables(
    sqs_server: SQSServer,
    proxy: Proxy,
    sqs_group: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The environment of a command that finds the module, and SQS behind the proxy."""
    sqs_server.set_environment(monkeypatch)
    (tmp_path / "polled.py").write_text(MODULE)
    return {"GROUP": sqs_group, "AWS_ENDPOINT_URL": proxy.url, "AWS_DEFAULT_REGION": REGION}


@pytest.mark.parametrize(("options", "wait"), [(["--reload"], 1), ([], 20)])
def test_receives_wait_shortly_while_the_worker_reloads(
    variables: dict[str, str], proxy: Proxy, tmp_path: Path, options: list[str], wait: int
) -> None:
    arguments = ("worker", "polled:instance", *options)
    with Command(*arguments, variables=variables, folder=tmp_path) as command:
        command.wait_until(lambda: proxy.counts["ReceiveMessage"], "it polls")

    assert {each.body["WaitTimeSeconds"] for each in proxy.sent("ReceiveMessage")} == {wait}


def test_second_signal_does_not_wait_for_the_receive_under_way(
    variables: dict[str, str], proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script("ReceiveMessage", hang)
    with Command("worker", "polled:instance", variables=variables, folder=tmp_path) as command:
        command.wait_until(lambda: proxy.counts["ReceiveMessage"], "it polls")
        command.send(signal.SIGTERM)
        command.wait_for("waiting for a receive")
        command.send(signal.SIGTERM)

        # Long before the receive would be given up, which is 30 s after it began.
        assert command.end() == FORCED


def permissions(*names: str) -> set[str]:
    """What the statements of these names grant in the policies of the docs."""
    page = (ROOT / "docs" / "sqs-operating.md").read_text()
    policies = [json.loads(each) for each in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    granted = {
        each["Sid"]: each["Action"]
        for policy in policies
        for each in policy.get("Statement", ())
        if "Sid" in each
    }
    return {action.removeprefix("sqs:") for name in names for action in granted[name]}


def test_looks_at_errors_leave_none_leased_and_need_the_documented_permissions(
    variables: dict[str, str],
    sqs_server: SQSServer,
    proxy: Proxy,
    sqs_group: str,
    tmp_path: Path,
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=0)
    with Deferrable(factory.create_backend_for_group(sqs_group)) as instance:

        @instance.deferrable(name="job")
        def fail(number: int) -> object:
            return 1 / 0 if number % 2 else {}[number]

        fail.later_many([(number,) for number in range(12)])
        while instance.backend.error_queue.stats()["available"] < 12:
            instance.run_once()

        texts = [
            call_command("errors", *words, variables=variables, folder=tmp_path).stdout
            for words in (
                ("list", "polled:instance", "--type", "KeyError"),
                ("show", "polled:instance", "--all", "--type", "KeyError"),
                ("list", "polled:instance"),
            )
        ]
        stats = instance.backend.error_queue.stats()
        for words in (
            ("requeue", "polled:instance", "--all", "--type", "KeyError"),
            ("discard", "polled:instance", "--all", "--yes"),
        ):
            done = call_command("errors", *words, variables=variables, folder=tmp_path)
            assert done.returncode == 0, done.stderr
        left = [instance.backend.queue.stats(), instance.backend.error_queue.stats()]

    assert [each["available"] for each in left] == [6, 0]
    used = {action.removesuffix("Batch") for action in proxy.counts}
    assert used == permissions("Operator", "OperatorErrors") - {"PurgeQueue"}
    assert [text.count("KeyError") >= 6 for text in texts] == [True] * 3
    assert ["ZeroDivisionError" in text for text in texts] == [False, False, True]
    assert (stats["available"], stats["in_flight"]) == (12, 0)
