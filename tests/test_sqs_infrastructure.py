"""The queues that Terraform and CDK create in the documentation are those of a factory."""

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Any

import hcl2
import pytest
from sqs_proxy import Proxy
from sqs_server import SQSServer

from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.aio.backend.sqs._names import names_for

PAGE = (Path(__file__).parents[1] / "docs" / "sqs-operating.md").read_text()


def block(language: str, word: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (text,) = (each for each in found if word in each)
    return str(text)


@pytest.fixture
async def created(sqs_server: SQSServer, proxy: Proxy, sqs_group: str) -> list[dict[str, Any]]:
    """What a factory asks for that is given nothing: for the error queue, then for the queue."""
    factory = SQSBackendFactory(sqs_server.connection(proxy.url))
    async with factory.create_backend_for_group(sqs_group) as backend:
        await backend.queue.stats()
    bodies = {each.body["QueueName"]: each.body["Attributes"] for each in proxy.sent("CreateQueue")}
    names = names_for(sqs_group, None)
    return [bodies[names.error_queue], bodies[names.queue]]


def described(
    name: str, retention: int, visibility: int | None, receives: int | None
) -> dict[str, Any]:
    return {
        "name": name,
        "retention": retention,
        "visibility": visibility,
        "receives": receives,
    }


def wanted(created: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same for the group `orders`, but that no queue forgets earlier than its error queue."""
    names = names_for("orders", None)
    errors, orders = created
    retention = int(errors["MessageRetentionPeriod"])
    lease = inspect.signature(SQSBackendFactory).parameters["visibility_timeout"].default
    receives = int(json.loads(orders["RedrivePolicy"])["maxReceiveCount"])
    return [
        described(names.error_queue, retention, None, None),
        described(names.queue, retention, lease, receives),
    ]


@pytest.mark.anyio
async def test_terraform_creates_the_queues_of_a_factory(created: list[dict[str, Any]]) -> None:
    resources = hcl2.loads(block("hcl", "aws_sqs_queue"))["resource"]
    queues = {
        name.strip('"'): settings
        for each in resources
        for name, settings in each.get('"aws_sqs_queue"', {}).items()
    }
    policy = queues["orders"]["redrive_policy"]
    receives = re.search(r"maxReceiveCount = (\d+)", policy)

    assert receives is not None
    assert "aws_sqs_queue.errors.arn" in policy
    assert [
        described(
            settings["name"].strip('"'),
            settings["message_retention_seconds"],
            settings.get("visibility_timeout_seconds"),
            int(receives[1]) if "redrive_policy" in settings else None,
        )
        for settings in (queues["errors"], queues["orders"])
    ] == wanted(created)


def numbers_in(call: ast.Call) -> dict[str, Any]:
    """The named arguments of a call that are texts or numbers, also those inside another call."""
    found: dict[str, Any] = {}
    for each in call.keywords:
        value = each.value
        if isinstance(value, ast.Constant):
            found[str(each.arg)] = value.value
        elif isinstance(value, ast.Call):
            for argument in value.args:
                if isinstance(argument, ast.Constant) and isinstance(value.func, ast.Attribute):
                    unit = {"days": 86_400, "seconds": 1}[value.func.attr]
                    found[str(each.arg)] = argument.value * unit
            found |= numbers_in(value)
    return found


@pytest.mark.anyio
async def test_cdk_creates_the_queues_of_a_factory(created: list[dict[str, Any]]) -> None:
    calls = [
        numbers_in(node)
        for node in ast.walk(ast.parse(block("py", "aws_cdk")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sqs.Queue"
    ]

    assert [
        described(
            each["queue_name"],
            each["retention_period"],
            each.get("visibility_timeout"),
            each.get("max_receive_count"),
        )
        for each in calls
    ] == wanted(created)
