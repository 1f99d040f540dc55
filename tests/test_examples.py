"""The examples of embedding do what they say: real processes, a real Redis, real signals."""

import json
import re
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import warm_python
from commands import PythonProcess, environment
from processes import DEADLINE_SECONDS
from redis_server import start_redis

from deferrable.aio.backend import DocketsBackendFactory
from deferrable.testing import wait_until

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "embedding.md").read_text()
STOP = signal.SIGTERM


@pytest.fixture
def url() -> Iterator[str]:
    """A Redis of this test, because the examples' groups have fixed names."""
    with start_redis() as server:
        yield server.url


def run_python(folder: Path, *arguments: str, variables: Mapping[str, str]) -> str:
    """What a program prints, which must succeed and leave its standard error empty."""
    done = warm_python.run_python(
        list(arguments), cwd=folder, env=environment(variables), timeout=DEADLINE_SECONDS
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


# Django.

SUBSCRIBE = """
import json
import django
django.setup()
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment
call_command("migrate", run_syncdb=True, verbosity=0)
setup_test_environment()
answer = Client().post("/subscribe", {"email": "ada@example.org"})
print(json.dumps([answer.status_code, answer.json()]))
"""


class Site:
    """The Django site with its own database."""

    folder = EXAMPLES / "django_site"

    def __init__(self, redis_url: str, database: Path) -> None:
        self.database = database
        self.variables = {
            "REDIS_URL": redis_url,
            "DATABASE": str(database),
            "DJANGO_SETTINGS_MODULE": "settings",
        }

    def subscribe(self) -> list[object]:
        """What the view answers, without a server; the tables are made before."""
        answer: list[object] = json.loads(
            run_python(self.folder, "-c", SUBSCRIBE, variables=self.variables)
        )
        return answer

    def worker(self) -> PythonProcess:
        arguments = ["-u", "manage.py", "run_worker"]
        return PythonProcess(arguments, variables=self.variables, folder=self.folder)

    def rows(self) -> list[tuple[str, int]]:
        connection = sqlite3.connect(self.database)
        try:
            return connection.execute(
                "SELECT email, is_welcomed FROM newsletter_subscriber"
            ).fetchall()
        finally:
            connection.close()


@pytest.fixture
def site(url: str, tmp_path: Path) -> Site:
    return Site(url, tmp_path / "db.sqlite3")


def test_the_django_command_runs_what_a_view_deferred_until_sigterm(site: Site) -> None:
    answer = site.subscribe()
    before = site.rows()
    with site.worker() as worker:
        worker.wait_for("completed: Welcome, ada@example.org!")
        worker.send(STOP)
        code = worker.end()

    assert answer == [202, {"id": 1}]
    assert before == [("ada@example.org", 0)]
    assert site.rows() == [("ada@example.org", 1)]
    assert (code, worker.text.splitlines()) == (
        0,
        [
            "the worker is ready",
            "newsletter.jobs:welcome completed: Welcome, ada@example.org!",
            "the worker has stopped",
        ],
    )


# The page.


def test_the_page_on_embedding_shows_the_examples_as_they_are() -> None:
    texts = [path.read_text() for path in EXAMPLES.rglob("*.py")]
    shown = re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    assert len(shown) == 7
    for block in shown:
        assert any(block in text for text in texts), block


def test_the_page_on_embedding_has_the_commands_of_the_headers() -> None:
    heads = "".join(path.read_text() for path in EXAMPLES.rglob("*.py"))
    commands = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    assert len(commands) == 2
    for line in "".join(commands).splitlines():
        assert line in heads, line
