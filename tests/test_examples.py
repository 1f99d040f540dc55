"""The examples of embedding do what they say: real processes, a real Redis, real signals."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from commands import DEADLINE_SECONDS, PythonProcess, environment
from redis_server import start_redis

from deferrable.aio.backend import DocketsBackendFactory
from deferrable.testing import wait_until

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "embedding.md").read_text()
STOP = signal.SIGTERM


@pytest.fixture
def url() -> Iterator[str]:
    """A Redis of the test's own, because the examples' groups have fixed names."""
    with start_redis() as server:
        yield server.url


def run_python(folder: Path, *arguments: str, variables: Mapping[str, str]) -> str:
    """What a program prints, which must succeed and leave its standard error empty."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}{done.stderr}"
    return done.stdout


# The plain script.


def test_the_plain_script_prints_an_answer_for_each_call_and_ends() -> None:
    printed = run_python(EXAMPLES, "plain_script.py", variables={})

    assert printed.splitlines() == ["completed: 3", "errored: 7 is odd", "completed: 4"]


# FastAPI.


class Server(PythonProcess):
    """The FastAPI app under uvicorn, on a port that the system chose."""

    def __init__(self, redis_url: str) -> None:
        super().__init__(
            ["-m", "uvicorn", "app:app", "--port", "0"],
            variables={"REDIS_URL": redis_url},
            folder=EXAMPLES / "fastapi_app",
        )

    def client(self) -> httpx.AsyncClient:
        """A client, once the server answers."""
        self.wait_for("Uvicorn running on")
        address = re.search(r"http://127\.0\.0\.1:\d+", self.text)
        assert address is not None
        return httpx.AsyncClient(base_url=address.group(), trust_env=False)


@pytest.mark.anyio
async def test_the_fastapi_app_runs_beside_its_handlers_what_they_defer(url: str) -> None:
    with Server(url) as server:
        async with server.client() as client:
            answer = await client.post("/welcome/Ada")

            assert (answer.status_code, answer.json()["status"]) == (202, "pushed")

            async def has_outcome() -> bool:
                return (await client.get("/outcomes")).json() == ["completed: Welcome, Ada!"]

            await wait_until(has_outcome, "the outcome was read")
            assert (await client.get("/health")).status_code == 200


@pytest.mark.anyio
async def test_the_fastapi_app_finishes_what_runs_when_its_server_is_stopped(url: str) -> None:
    queue = DocketsBackendFactory(url).create_backend_for_group("fastapi_app").queue
    with Server(url) as server:
        async with queue, server.client() as client:
            await client.post("/welcome/Ada", params={"delay_seconds": 3600})
            await client.post("/welcome/Grace")

            async def is_running() -> bool:
                return (await queue.stats())["in_flight"] == 1

            await wait_until(is_running, "a job runs")
            server.send(STOP)
            server.end()

            assert await queue.stats() == {"available": 0, "in_flight": 0, "delayed": 1}
            assert "Application shutdown complete" in server.text
            assert "Traceback" not in server.text
            assert "Warning" not in server.text


# The page.


def test_the_page_on_embedding_shows_the_examples_as_they_are() -> None:
    texts = [path.read_text() for path in EXAMPLES.rglob("*.py")]
    shown = re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    assert len(shown) == 4
    for block in shown:
        assert any(block in text for text in texts), block


def test_the_page_on_embedding_has_the_commands_of_the_headers() -> None:
    heads = "".join(path.read_text() for path in EXAMPLES.rglob("*.py"))
    commands = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    assert len(commands) == 1
    for line in "".join(commands).splitlines():
        assert line in heads, line
