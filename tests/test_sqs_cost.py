"""``deferrable cost``: the estimate, held to requests that a proxy counted."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from commands import call_command
from sqs_proxy import Proxy, proxy_to
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend.sqs import Load, SQSBackendFactory, bill, naive_bill
from deferrable.errors import InvalidOptions

MONTH_SECONDS = 30 * 86_400
BACKLOG = 90


@pytest.fixture
def proxy(sqs_server: SQSServer) -> Iterator[Proxy]:
    with proxy_to(sqs_server.url) as proxy:
        yield proxy


@pytest.mark.anyio
@pytest.mark.parametrize("burst", [BACKLOG, 1])
async def test_the_estimate_is_what_a_load_sends(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy, burst: int
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=1)
    jobs = burst if burst > 1 else 5
    async with factory.create_backend_for_group(sqs_group) as backend:
        instance = Deferrable(backend)
        job = instance.deferrable(name="job")(lambda number: None)
        await backend.queue.pop()
        proxy.requests.clear()

        async with instance.worker(concurrency=20) as worker:
            for start in range(0, jobs, burst):
                await job.later_many_async([(number,) for number in range(start, start + burst)])
                left = burst
                async for outcome in worker:
                    assert outcome.status == "completed"
                    left -= 1
                    if not left:
                        break

    estimated = bill(Load(jobs=jobs, burst=burst, workers=0)).total
    counts = proxy.counts
    empty = 1 + counts["ReceiveMessage"] - len(proxy.sent("DeleteMessageBatch"))
    sent = counts.total() - max(0, empty if burst == 1 else 0)
    assert sent == pytest.approx(estimated, rel=0.25), counts


def test_an_empty_queue_costs_one_receive_in_a_wait() -> None:
    idle = bill(Load(jobs=0, workers=3, wait_seconds=20))

    assert idle.total == 3 * MONTH_SECONDS / 20
    assert idle.requests_per_job is None


def test_tens_cost_a_tenth() -> None:
    load = Load(jobs=1000, burst=100, workers=0)

    assert bill(load).requests_per_job == pytest.approx(0.3)
    assert naive_bill(load).requests_per_job == pytest.approx(3)


def test_each_started_64_kib_is_billed() -> None:
    small = bill(Load(jobs=10, size_bytes=65_536, workers=0)).requests
    large = bill(Load(jobs=10, size_bytes=65_537, workers=0)).requests
    full = bill(Load(jobs=10, burst=10, size_bytes=1_048_576, workers=0)).requests

    assert (small["send"], large["send"], large["delete"]) == (10, 20, 10)
    assert (full["send"], full["delete"]) == (160, 1)


def test_long_jobs_and_long_delays_cost_more() -> None:
    hour = bill(Load(jobs=1, job_seconds=3600, workers=0)).requests
    late = bill(Load(jobs=1, delay_seconds=3600, workers=0)).requests

    assert hour["heartbeat"] == 360
    assert late["hop"] == 9  # three hops of three requests


@pytest.mark.parametrize(
    "options",
    [
        {"jobs": -1},
        {"jobs": 1, "burst": 0},
        {"jobs": 1, "wait_seconds": 21},
        {"jobs": 1, "size_bytes": 2_000_000},
        {"jobs": 1, "error_share": 2},
        {"jobs": 1, "concurrency": 0},
        {"jobs": 1, "is_fifo": True, "delay_seconds": 5},
    ],
)
def test_what_sqs_cannot_do_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions):
        Load(**options)


def test_the_command_reads_numbers_with_units() -> None:
    arguments = ["cost", "--jobs", "5M", "--size", "2k", "--burst", "1e2", "--json"]
    wrong = call_command(*arguments, variables={})
    arguments[6] = "100"
    done = call_command(*arguments, "--errors", "1%", "--fifo", variables={})

    assert wrong.returncode == 2
    assert "'1e2' is no number" in wrong.stderr
    told = json.loads(done.stdout)
    assert told["deferrable"]["requests"]["send"] == 500_000
    assert told["deferrable"]["price_of_million"] == 0.5
    assert told["naive"]["dollars"] > told["deferrable"]["dollars"]
