"""The example with Django's tasks, as real processes with a real client."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from commands import PythonProcess, environment
from processes import DEADLINE_SECONDS, ROOT
from redis_server import free_port
from warm_python import run_python

FOLDER = ROOT / "examples" / "django_tasks"
SUPERUSER = {
    "DJANGO_SUPERUSER_USERNAME": "ada",
    "DJANGO_SUPERUSER_PASSWORD": "analytical",
    "DJANGO_SUPERUSER_EMAIL": "ada@example.org",
}


class Site:
    """The example with a database of one test."""

    def __init__(self, database: Path) -> None:
        self.variables = {"DATABASE": str(database), "DJANGO_SETTINGS_MODULE": "settings"}
        self.variables |= {"PYTHONWARNINGS": "default", **SUPERUSER}
        self.port = free_port()

    def run(self, *arguments: str) -> str:
        done = run_python(
            list(arguments),
            cwd=FOLDER,
            env=environment(self.variables),
            timeout=DEADLINE_SECONDS,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *arguments: str) -> PythonProcess:
        return PythonProcess(arguments, variables=self.variables, folder=FOLDER)


PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
call_command("createsuperuser", interactive=False, verbosity=0)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables and one user, to copy."""
    database = tmp_path_factory.mktemp("django") / "db.sqlite3"
    Site(database).run("-c", PREPARE)
    return database


@pytest.fixture
def site(prepared: Path, tmp_path: Path) -> Site:
    return Site(shutil.copy(prepared, tmp_path / "db.sqlite3"))


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    arguments = ("-m", "uvicorn", "asgi:application", "--port", str(site.port))
    with (
        site.start(*arguments) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{site.port}", timeout=DEADLINE_SECONDS) as client,
    ):
        server.wait_for("Uvicorn running")
        yield client


def token_in(page: httpx.Response) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found is not None
    return found[1]


def test_what_a_view_enqueues_runs_in_a_worker(site: Site, client: httpx.Client) -> None:
    first = client.post("/subscribe", data={"email": "ada@example.org"})
    refused = client.post("/subscribe", data={"email": "ada@example.org"})
    pending = client.get(f"/results/{first.json()['result']}").json()
    counts = json.loads(site.run("manage.py", "deferrable", "stats", "mail", "--json"))

    assert (first.status_code, refused.status_code) == (202, 500)
    assert pending == {"status": "READY", "value": None, "attempts": 0}
    assert counts[0]["available"] == 1  # the second one was rolled back with its row
    with site.start("-u", "manage.py", "deferrable", "worker", "--log-format", "json") as worker:
        worker.wait_for("2 jobs", count=2)
        worker.wait_until(
            lambda: (
                client.get(f"/results/{first.json()['result']}").json()["status"] == "SUCCESSFUL"
            ),
            "the task has run",
        )
        worker.send(signal.SIGTERM)
        code = worker.end()

    done = client.get(f"/results/{first.json()['result']}").json()
    assert code == 0, worker.text
    assert done == {"status": "SUCCESSFUL", "value": "Welcome, ada@example.org!", "attempts": 1}


def test_the_dashboard_is_for_the_staff_of_the_admin(site: Site, client: httpx.Client) -> None:
    stranger = client.get("/admin/deferrable/")
    login = client.get("/admin/login/")
    client.post(
        "/admin/login/",
        data={
            "username": "ada",
            "password": "analytical",
            "csrfmiddlewaretoken": token_in(login),
            "next": "/admin/",
        },
    )
    page = client.get("/admin/deferrable/")

    assert stranger.status_code == 302
    assert stranger.headers["location"] == "/admin/login/?next=/admin/deferrable/"
    assert page.status_code == 200, page.text
    assert "mail" in page.text
    assert client.get("/admin/").status_code == 200


def test_a_worker_restarts_when_a_task_changes(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    shutil.copytree(FOLDER, folder)
    source = folder / "newsletter" / "tasks.py"
    with PythonProcess(
        ("-u", "manage.py", "deferrable", "worker", "--reload"),
        variables=site.variables,
        folder=folder,
    ) as worker:
        worker.wait_for("2 jobs", count=2)
        source.write_text(source.read_text() + "\n\n@task\ndef another() -> None: ...\n")
        worker.wait_for("3 jobs", count=2)
        source.write_text("this is no Python\n")
        worker.wait_for("waiting for a change")
        worker.send(signal.SIGTERM)
        assert worker.end() == 0, worker.text
