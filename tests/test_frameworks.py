"""The examples with FastAPI, Flask and Litestar, as real processes with a real client."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

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


STREAMING = """
    import asyncio
    from contextlib import asynccontextmanager
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from deferrable.aio import Deferrable, backend
    from deferrable.contrib.starlette import workers_beside

    def instance(group):
        @asynccontextmanager
        async def lifespan():
            yield
            print(f"the worker of {group} has ended", flush=True)

        return Deferrable(
            backend.InMemoryBackendFactory().create_backend_for_group(group), lifespan=lifespan
        )

    shop, mails = instance("shop"), instance("mails")

    @shop.deferrable(name="job")
    async def job():
        print("a job has begun", flush=True)
        await asyncio.sleep(1)
        print("a job has ended", flush=True)

    app = FastAPI(lifespan=workers_beside(shop, mails))

    @app.get("/stream")
    async def stream():
        async def forever():
            await job.later_async()
            while True:
                yield b"."
                await asyncio.sleep(0.1)

        return StreamingResponse(forever())
"""


def test_workers_end_in_order_when_the_server_is_to_stop_also_beside_an_open_stream(
    tmp_path: Path,
) -> None:
    (tmp_path / "streaming.py").write_text(dedent(STREAMING))
    port = free_port()
    options = ["-m", "uvicorn", "streaming:app", "--port", str(port)]

    with PythonProcess(options, variables={}, folder=tmp_path) as server:
        server.wait_for("Uvicorn running")
        with httpx.stream("GET", f"http://127.0.0.1:{port}/stream", trust_env=False) as answer:
            assert answer.status_code == 200
            server.wait_for("a job has begun")
            server.send(signal.SIGTERM)
            server.wait_for("the worker of shop has ended")
            server.wait_for("the worker of mails has ended")
            text = server.text
        server.wait_for("Application shutdown complete")

    assert "a job has ended" in text
    assert "Application shutdown" not in text


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
