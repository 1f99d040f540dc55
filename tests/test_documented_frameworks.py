"""The code of docs/django.md and docs/frameworks.md, run as a reader would run it.

Each Python block there is a file of a new project. What a page leaves out stands here: the view
that enqueues a task of Django, and a server's port.
"""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from commands import PythonProcess, environment
from processes import DEADLINE_SECONDS, ROOT
from redis_server import free_port
from warm_python import run_python

REDIS = "redis://localhost:6379/0"
BLOCK = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
URLS = """
from django.contrib import admin
from django.db import transaction
from django.http import JsonResponse
from django.urls import path
from newsletter.tasks import welcome

def subscribe(request):
    with transaction.atomic():
        result = welcome.enqueue(7)
    return JsonResponse({"result": result.id})

urlpatterns = [path("admin/", admin.site.urls), path("subscribe", subscribe)]
"""


def blocks_of(page: str) -> list[str]:
    return BLOCK.findall((ROOT / "docs" / page).read_text())


def run(folder: Path, *arguments: str, **variables: str) -> str:
    done = run_python(
        list(arguments), cwd=folder, env=environment(variables), timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of Django with what the page says."""
    run(tmp_path, "-m", "django", "startproject", "site_", str(tmp_path))
    run(tmp_path, "manage.py", "startapp", "newsletter")
    settings, tasks, options, periodic, asgi, tests = blocks_of("django.md")
    url = f"sqlite:///{tmp_path}/jobs.db?durability=process"

    place = tmp_path / "site_" / "settings.py"
    settings = settings.replace("[..., ", '[*INSTALLED_APPS, "newsletter", ').replace(REDIS, url)
    place.write_text(place.read_text() + settings)
    for name, text in {"tasks.py": tasks + periodic, "tests.py": tests}.items():
        assert text.startswith(f"# newsletter/{name}")
        (tmp_path / "newsletter" / name).write_text(text)
    (tmp_path / "site_" / "urls.py").write_text(URLS)
    (tmp_path / "site_" / "asgi.py").write_text(asgi)
    more = tmp_path / "site_" / "more.py"
    more.write_text(
        f"from .settings import *\nTASKS['default'].update({{{options.replace(REDIS, url)}}})\n"
    )
    return tmp_path


def test_project_of_the_page_about_django_works(project: Path) -> None:
    variables = {"DJANGO_SETTINGS_MODULE": "site_.settings"}
    run(project, "manage.py", "migrate", "-v", "0")

    assert "no issues" in run(project, "manage.py", "check")
    assert "OK" in run(project, "manage.py", "test", "newsletter")
    assert "report" in run(project, "manage.py", "deferrable", "schedule", "list", "default")
    run(
        project,
        "-c",
        "import django; django.setup(); from newsletter.tasks import welcome; "
        "welcome.enqueue(7); welcome.using(unique=True).enqueue(7)",
        **variables,
    )
    stats = run(project, "manage.py", "deferrable", "stats", "mail", "--json")
    run(project, "manage.py", "deferrable", "worker", "mail", "--burst")

    assert json.loads(stats)[0]["available"] == 2
    after = run(project, "manage.py", "deferrable", "stats", "mail", "--json")
    assert json.loads(after)[0]["available"] == 0


def test_options_and_dashboard_of_the_page_about_django_are_right(project: Path) -> None:
    program = (
        "import asyncio, httpx\n"
        "from site_.asgi import application\n"
        "async def go():\n"
        "    transport = httpx.ASGITransport(application)\n"
        "    async with httpx.AsyncClient(transport=transport, base_url='http://localhost') as c:\n"
        "        return await c.get('/admin/deferrable/')\n"
        "answer = asyncio.run(go())\n"
        "print(answer.status_code, answer.headers['location'])\n"
    )
    run(project, "manage.py", "migrate", "-v", "0")

    printed = run(project, "-c", program, DJANGO_SETTINGS_MODULE="site_.settings")

    assert printed == "302 /admin/login/?next=/admin/deferrable/\n"
    assert "no issues" in run(project, "manage.py", "check", "--settings", "site_.more")


# The other frameworks.


@contextmanager
def serving(
    block: str, tmp_path: Path, *arguments: str, ready: str
) -> Iterator[tuple[PythonProcess, httpx.Client]]:
    (tmp_path / "app.py").write_text(block)
    port = str(free_port())
    variables = {"DEFERRABLE_URL": f"sqlite:///{tmp_path}/jobs.db?durability=process"}
    with (
        PythonProcess(
            ["-u", *arguments, "--port", port], variables=variables, folder=tmp_path
        ) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_SECONDS) as client,
    ):
        server.wait_for(ready)
        yield server, client


def test_application_of_fastapi_welcomes(tmp_path: Path) -> None:
    fastapi, _, _ = blocks_of("frameworks.md")
    uvicorn = ("-m", "uvicorn", "app:app")
    with serving(fastapi, tmp_path, *uvicorn, ready="Uvicorn running") as (server, client):
        answers = [
            client.post("/welcome/Ada"),
            client.get("/health/ready"),
            client.get("/ops/jobs/"),
        ]
        server.wait_for("Welcome, Ada!")
        server.send(signal.SIGTERM)
        server.end()

    assert [each.status_code for each in answers] == [202, 200, 200]


def test_application_of_flask_welcomes(tmp_path: Path) -> None:
    _, flask, _ = blocks_of("frameworks.md")
    with serving(flask, tmp_path, "-m", "flask", "run", ready="Running on") as (_, client):
        assert client.post("/welcome/Ada").status_code == 202
    variables = {"DEFERRABLE_URL": f"sqlite:///{tmp_path}/jobs.db"}

    printed = run(tmp_path, "-m", "flask", "deferrable", "worker", "--burst", **variables)

    assert "completed" in printed


def test_application_of_litestar_welcomes(tmp_path: Path) -> None:
    _, _, litestar = blocks_of("frameworks.md")
    uvicorn = ("-m", "uvicorn", "app:app")
    with serving(litestar, tmp_path, *uvicorn, ready="Uvicorn running") as (server, client):
        assert client.post("/welcome", json={"name": "Ada"}).status_code == 202
        server.wait_for("Welcome, Ada!")
