"""What a job costs on SQS: the client's time, and the requests that AWS is paid for.

Against a server that answers at once (`sqs_server`, another process), next to a bare
aiobotocore client that makes the same batched calls in the same run, as many at a time and with the
same options: the floor that a library can reach. Rates are jobs for each second of this process's
CPU, so that a busy machine changes them less. Medians of several rounds.
``python benchmarks/sqs.py [JOBS [ROUNDS]]``

Sources: aws.amazon.com/sqs/pricing, standard queues: 0.40 USD for a million requests.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from aiobotocore.session import get_session  # noqa: E402
from botocore.config import Config  # noqa: E402

from deferrable.aio import Deferrable  # noqa: E402
from deferrable.aio.backend.sqs import SQSBackendFactory  # noqa: E402

DOLLARS_PER_MILLION_REQUESTS = 0.40
BATCH = 10
OPTIONS = Config(
    user_agent="floor",
    retries={"total_max_attempts": 1, "mode": "standard"},
    parameter_validation=False,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """What one round cost for each job."""

    cpu_seconds: float
    seconds: float
    requests: float


@contextmanager
def canned_server() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "sqs_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)


def requests_of(url: str) -> int:
    with urllib.request.urlopen(f"{url}/counts") as answer:
        return sum(json.load(answer).values())


async def measure(url: str, jobs: int, run: Callable[[], Awaitable[None]]) -> Figure:
    requests, cpu, clock = requests_of(url), time.process_time(), time.perf_counter()
    await run()
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return Figure(cpu / jobs, clock / jobs, (requests_of(url) - requests) / jobs)


# The floor.


class Floor:
    """The same calls, and nothing around them."""

    def __init__(self, client, queue_url: str, body: str, jobs: int) -> None:
        self._client = client
        self._queue = {"QueueUrl": queue_url}
        self._body = body
        self._batches = jobs // BATCH

    async def produce(self) -> None:
        for _ in range(self._batches):
            entries = [{"Id": str(number), "MessageBody": self._body} for number in range(BATCH)]
            await self._client.send_message_batch(**self._queue, Entries=entries)

    async def consume(self) -> None:
        """Receive the next batch while the previous one is deleted."""
        async with asyncio.TaskGroup() as deleting:
            for _ in range(self._batches):
                deleting.create_task(self._delete(await self._receive()))

    async def _receive(self) -> list[dict]:
        answer = await self._client.receive_message(
            **self._queue, MaxNumberOfMessages=BATCH, WaitTimeSeconds=20, VisibilityTimeout=30
        )
        return [message for message in answer["Messages"] if json.loads(message["Body"])]

    async def _delete(self, messages: list[dict]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        await self._client.delete_message_batch(**self._queue, Entries=entries)


# Ours.


class Ours:
    """The library: `later_many` in blocks, and a worker."""

    def __init__(self, queue_url: str, jobs: int) -> None:
        factory = SQSBackendFactory(queue_url=queue_url, error_queue_url=f"{queue_url}_error")
        self.instance = Deferrable(factory.create_backend_for_group(None))
        self._jobs = jobs

        @self.instance.deferrable(name="job")
        async def job(number: int) -> None:
            return None

        self._job = job

    async def produce(self) -> None:
        for start in range(0, self._jobs, 1000):
            numbers = range(start, min(start + 1000, self._jobs))
            await self._job.later_many_async([(number,) for number in numbers])

    async def consume(self) -> None:
        done = 0
        async with self.instance.worker(concurrency=100) as worker:
            async for outcome in worker:
                assert outcome.status == "completed"
                done += 1
                if done == self._jobs:
                    break


async def compare(url: str, jobs: int, rounds: int) -> None:
    queue_url = f"{url}/123456789012/deferrable"
    ours = Ours(queue_url, jobs)
    await ours._job.later_async(0)  # the body that the server hands out, and a warm client
    figures: dict[str, list[Figure]] = {}
    async with get_session().create_client("sqs", config=OPTIONS) as client:
        received = await client.receive_message(QueueUrl=queue_url)
        body = received["Messages"][0]["Body"]
        floor = Floor(client, queue_url, body, jobs)
        for _ in range(rounds):
            for name, run in (
                ("send, floor", floor.produce),
                ("send, ours", ours.produce),
                ("consume, floor", floor.consume),
                ("consume, ours", ours.consume),
            ):
                figures.setdefault(name, []).append(await measure(url, jobs, run))
    await ours.instance.close()
    report(figures, len(body))


def report(figures: dict[str, list[Figure]], body_bytes: int) -> None:
    print(f"a body of {body_bytes} bytes; for each job:")
    print(f"{'':>16}  CPU, µs (range)     jobs/s a core  jobs/s here  requests")
    for name, rounds in figures.items():
        costs = [figure.cpu_seconds * 1e6 for figure in rounds]
        spread = f"{cpu(rounds) * 1e6:.0f} ({min(costs):.0f}-{max(costs):.0f})"
        here = 1 / statistics.median(figure.seconds for figure in rounds)
        print(
            f"{name:>16}  {spread:<19} {1 / cpu(rounds):>13,.0f} {here:>12,.0f} "
            f"{requests(rounds):>9.3f}"
        )
    costs = {name: cpu(rounds) for name, rounds in figures.items()}
    for who in ("floor", "ours"):
        costs[f"both, {who}"] = costs[f"send, {who}"] + costs[f"consume, {who}"]
    for what in ("send", "consume", "both"):
        floor, ours = costs[f"{what}, floor"], costs[f"{what}, ours"]
        print(f"{what}: {1 / ours:,.0f} jobs/s a core, {floor / ours:.0%} of {1 / floor:,.0f}")
    total = requests(figures["send, ours"]) + requests(figures["consume, ours"])
    print(f"{total:.3f} requests a job: ${total * DOLLARS_PER_MILLION_REQUESTS:.3f} a million jobs")


def cpu(rounds: list[Figure]) -> float:
    return statistics.median(figure.cpu_seconds for figure in rounds)


def requests(rounds: list[Figure]) -> float:
    return statistics.median(figure.requests for figure in rounds)


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with canned_server() as url:
        os.environ |= {
            "AWS_ENDPOINT_URL_SQS": url,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
        asyncio.run(compare(url, jobs, rounds))


if __name__ == "__main__":
    main()
