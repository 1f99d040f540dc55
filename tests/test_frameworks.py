"""The examples with FastAPI, Flask and Litestar, as real processes with a real client."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from commands import PythonProcess, environment
from processes import DEADLINE_SECONDS, ROOT
from redis_server import free_port

FOLDER = ROOT / "examples" / "frameworks"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    url = f"sqlite:///{tmp_path}/jobs.db?durability=process"
    return {"DEFERRABLE_URL": url, "PYTHONWARNINGS": "default"}


@contextmanager
def serving(
    arguments: Callable[[str], list[str]], ready: str, variables: dict[str, str]
) -> Iterator[tuple[PythonProcess, httpx.Client]]:
    """A server of an example, and a client of it."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with (
        PythonProcess(arguments(port), variables=variables, folder=FOLDER) as server,
        httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client,
    ):
        server.wait_for(ready)
        yield server, client


def uvicorn(module: str) -> Callable[[str], list[str]]:
    return lambda port: ["-m", "uvicorn", f"{module}:app", "--port", port]


def test_fastapi_defers_what_a_request_added_if_it_succeeded(variables: dict[str, str]) -> None:
    with serving(uvicorn("fastapi_jobs"), "Uvicorn running", variables) as (server, client):
        answers = [client.post(f"/welcome/{name}").status_code for name in ("nobody", "Ada")]
        server.wait_until(lambda: client.get("/welcomed").json(), "the job has run")
        welcomed = client.get("/welcomed").json()
        probes = [client.get(f"/health/{each}") for each in ("live", "ready")]
        page = client.get("/ops/jobs/")
        server.send(signal.SIGTERM)
        server.end()

    assert answers == [422, 202]
    assert welcomed == ["Ada"]
    assert [each.status_code for each in probes] == [200, 200]
    assert probes[1].json() == {"is_ready": True, "workers": [True]}
    assert (page.status_code, "shop" in page.text) == (200, True)
    assert "Application shutdown complete" in server.text


def test_flask_runs_jobs_in_a_context_of_the_application(variables: dict[str, str]) -> None:
    flask = ["-u", "-m", "flask", "--app", "flask_jobs"]
    with serving(lambda port: [*flask, "run", "--port", port], "Running on", variables) as (
        _server,
        client,
    ):
        call_id = client.post("/welcome/Ada").json()["id"]
        stats = subprocess.run(
            [sys.executable, *flask, "deferrable", "stats", "--json"],
            cwd=FOLDER,
            env=environment(variables),
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=True,
        )
        worker = subprocess.run(
            [sys.executable, *flask, "deferrable", "worker", "--burst"],
            cwd=FOLDER,
            env=environment(variables),
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        ended = client.get(f"/results/{call_id}").json()

    assert json.loads(stats.stdout)[0]["available"] == 1
    assert worker.returncode == 0, worker.stderr
    assert ended == {"status": "completed"}


def test_litestar_runs_a_worker_beside_the_application(variables: dict[str, str]) -> None:
    with serving(uvicorn("litestar_jobs"), "Uvicorn running", variables) as (server, client):
        status = client.post("/welcome/Ada").status_code
        server.wait_until(lambda: client.get("/welcomed").json(), "the job has run")
        server.send(signal.SIGTERM)
        server.end()

    assert status == 202
    assert "Application shutdown complete" in server.text
