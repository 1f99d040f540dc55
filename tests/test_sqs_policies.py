"""The IAM policies in docs/sqs-operating.md: who has one can do their work, and needs all of it."""

import fnmatch
import inspect
import json
import re
import uuid
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from processes import ROOT
from sqs_proxy import Answer, Exchange, answer, forward, proxy_to
from sqs_server import REGION, SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import S3Store, SQSBackendFactory
from deferrable.aio.backend.sqs._names import names_for
from deferrable.aio.backend.sqs._retries import most_receives

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs" / "sqs-operating.md").read_text()
LARGE = "x" * 1_100_000
OF_S3 = {"PUT": "s3:PutObject", "GET": "s3:GetObject", "DELETE": "s3:DeleteObject"}


def policies() -> dict[str, list[dict[str, Any]]]:
    """The statements of each policy in the page, by the name of the first."""
    found = map(json.loads, re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    return {each["Statement"][0]["Sid"]: each["Statement"] for each in found}


Statement = dict[str, Any]


class Gate:
    """Lets pass what policies allow, and notes which of their actions were needed."""

    def __init__(self, names: list[str], group: str, bucket: str) -> None:
        statements: list[Statement] = [each for name in names for each in policies()[name]]
        self.allowed = {
            (action, self._here(statement["Resource"], group, bucket))
            for statement in statements
            for action in _several(statement["Action"])
        }
        self.used: set[tuple[str, str]] = set()
        self.refused: list[str] = []

    @staticmethod
    def _here(resource: str, group: str, bucket: str) -> str:
        """The resource of the page, by the names of this test."""
        service, name = resource.split(":")[2], resource.split(":")[-1]
        assert service in ("sqs", "s3"), resource
        return name.replace("deferrable_orders", f"deferrable_{group}").replace("my-bucket", bucket)

    async def pass_or_refuse(self, exchange: Exchange) -> Answer | None:
        action, resource = self._needed(exchange)
        for each in self.allowed:
            if each[0] == action and fnmatch.fnmatchcase(resource, each[1]):
                self.used.add(each)
                return await forward(exchange)
        self.refused.append(f"{action} on {resource}")
        return await answer(403, "AccessDeniedException")(exchange)

    @staticmethod
    def _needed(exchange: Exchange) -> tuple[str, str]:
        request = exchange.request
        if request.action in OF_S3:
            return OF_S3[request.action], request.path.partition("?")[0].strip("/")
        url = request.body.get("QueueUrl") or request.body["QueueName"]
        # A batch needs the permission of its single call.
        return f"sqs:{request.action.removesuffix('Batch')}", url.rpartition("/")[2]


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class Work:
    """What each of them does, on queues that exist."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.instance = Deferrable(backend, default_error_classes=[OSError])
        self.job = self.instance.deferrable(name="job", use_exponential_backoff=False)(_work)

    async def produce(self) -> None:
        await self.job.later_async("well")
        await self.job.later_many_async([("well",)] * 3)
        await self.job.options(delay_seconds=3).later_async("well")
        await self.job.later_async("x" * 300_000)

    async def consume(self) -> None:
        while await self.instance.run_once() is not None:
            pass
        for text in ("retry", "bad", "x" * 300_000):
            await self.job.later_async(text)
        await self.backend.queue.push({"no": "job"})
        statuses = []
        while (outcome := await self.instance.run_once()) is not None:
            statuses.append(outcome.status)
        assert {"retried", "errored"} <= set(statuses)
        await self.job.later_async("well")
        envelope, _ = await self.backend.queue.pop()
        assert envelope is not None
        await self.backend.queue.touch(envelope, 60)
        await self.backend.queue.release(envelope)

    async def operate(self) -> None:
        errors = self.instance.errors()
        seen = 0
        async for each in errors:
            seen += 1
            if seen == 1:
                await each.requeue()
            elif seen == 2:
                await each.discard()
        assert seen == 3  # the last one is given back
        for queue in (self.backend.queue, self.backend.error_queue):
            await queue.stats()
            await queue.flush()

    async def offload(self) -> None:
        await self.job.later_async(LARGE)
        outcome = await self.instance.run_once()
        assert outcome is not None
        assert outcome.status == "completed"


async def _work(text: str) -> None:
    if text == "retry":
        raise OSError("again")
    if text == "bad":
        raise ValueError("for good")


@pytest.fixture
def bucket(sqs_server: SQSServer) -> Iterator[str]:
    s3, name = sqs_server.client("s3"), f"deferrable-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield name
    s3.delete_bucket(Bucket=name)


CASES: dict[str, tuple[list[str], Callable[[Work], Coroutine[Any, Any, None]]]] = {
    "Producer": (["Producer"], Work.produce),
    "Consumer": (["Consumer"], Work.consume),
    "Operator": (["Operator"], Work.operate),
    "LargeItems": (["Consumer", "LargeItems"], Work.offload),
}


@pytest.mark.parametrize("name", CASES)
async def test_policy_of_the_page_is_enough_and_no_more(
    sqs_server: SQSServer, sqs_group: str, bucket: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs_server.set_environment(monkeypatch)
    names, work = CASES[name]
    gate = Gate(names, sqs_group, bucket)
    await prepare(sqs_group, is_for_operator=name == "Operator")

    with proxy_to(sqs_server.url, otherwise=gate.pass_or_refuse) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        await work_on(sqs_group, bucket, work)

    assert gate.refused == []
    unused = {action for action, _ in gate.allowed - gate.used} - {"s3:ListBucket"}
    if name != "LargeItems":
        assert unused == set()
    else:
        assert not {each for each in unused if each.startswith("s3:")}


@pytest.mark.parametrize("language", ["hcl", "py"])
def test_queues_as_code_are_those_that_the_library_makes(language: str) -> None:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names = names_for("orders", None)
    factory = inspect.signature(SQSBackendFactory).parameters

    assert {f'"{names.queue}"', f'"{names.error_queue}"'} <= set(
        re.findall(r'"deferrable\w+"', code)
    )
    (receives,) = re.findall(r"max_?receive_?count\s*=\s*(\d+)", code, re.IGNORECASE)
    assert int(receives) == most_receives(factory["retry"].default)
    assert "1209600" in code or "days(14)" in code


async def test_gate_refuses_what_no_policy_names(
    sqs_server: SQSServer, sqs_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer cannot consume, so the test above would notice a missing action."""
    sqs_server.set_environment(monkeypatch)
    gate = Gate(["Producer"], sqs_group, "none")
    await prepare(sqs_group)

    with proxy_to(sqs_server.url, otherwise=gate.pass_or_refuse) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(Exception, match="AccessDenied"):
            await work_on(sqs_group, "none", Work.consume)

    assert gate.refused


async def prepare(group: str, *, is_for_operator: bool = False) -> None:
    """Make the queues, as infrastructure code does, and some errors for an operator."""
    async with SQSBackendFactory(wait_time=0).create_backend_for_group(group) as backend:
        await backend.queue.stats()
        await backend.error_queue.stats()
        if is_for_operator:
            work = Work(backend)
            await work.job.later_many_async([("bad",)] * 3)
            while await work.instance.run_once() is not None:
                pass


async def work_on(
    group: str, bucket: str, work: Callable[[Work], Coroutine[Any, Any, None]]
) -> None:
    factory = SQSBackendFactory(wait_time=0, create=False, large_items=S3Store(bucket, "jobs"))
    async with factory.create_backend_for_group(group) as backend:
        await work(Work(backend))
