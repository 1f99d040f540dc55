"""``DEFERRABLE_APP``: the instance of every command that names none."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from commands import as_in_a_process_of_its_own, call_command, environment, run_command

from deferrable.cli.app import cli
from deferrable.cli.naming import NamingCommand

APP = """
from deferrable import Deferrable, backend

factory = backend.from_url("sqlite:///jobs.db")
shop = Deferrable(factory.create_backend_for_group("shop"))
mails = Deferrable(factory.create_backend_for_group("mails"))


@shop.deferrable
def pay(order):
    raise ValueError(order)


def fail():
    pay.options(call_id="order:17").later(17)
    pay.options(call_id="app:pay").later(18)
    while shop.run_once():
        pass
"""
SHOP = {"DEFERRABLE_APP": "app:shop", "COLUMNS": "200"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def all_commands(group: click.Group) -> list[click.Command]:
    found = []
    for each in group.commands.values():
        found += all_commands(each) if isinstance(each, click.Group) else [each]
    return found


def test_every_command_that_takes_an_instance_takes_the_default_one() -> None:
    for each in all_commands(cli):
        names = {parameter.name for parameter in each.params}
        assert not names & {"path", "paths"} or isinstance(each, NamingCommand), each.name


@pytest.mark.parametrize("command", [["stats"], ["jobs"], ["errors", "list"], ["check"]])
def test_command_without_an_instance_takes_the_default_one(
    folder: Path, command: list[str]
) -> None:
    options = ["--against-queue"] if command == ["check"] else []

    done = call_command(*command, *options, "--json", variables=SHOP, folder=folder)

    assert (done.returncode, done.stderr) == (0, "")


def test_commands_of_several_instances_take_all_default_ones(folder: Path) -> None:
    both = {"DEFERRABLE_APP": "app:shop app:mails", "COLUMNS": "200"}

    counted = call_command("stats", variables=both, folder=folder)
    one = call_command("errors", "list", variables=both, folder=folder)

    assert "app:shop" in counted.stdout
    assert "app:mails" in counted.stdout
    assert one.returncode == 2
    assert one.stderr == "Error: say which instance: app:shop or app:mails\n"


def test_id_needs_no_instance_before_it_and_a_named_instance_wins(folder: Path) -> None:
    call_command("jobs", variables=SHOP, folder=folder)
    run(folder, "fail")

    by_default = call_command("errors", "show", "order:17", variables=SHOP, folder=folder)
    by_name = call_command(
        "errors", "show", "app:shop", "order:17",
        variables=SHOP | {"DEFERRABLE_APP": "app:mails"}, folder=folder,
    )  # fmt: skip
    # The id of this call is the name of a job, which is no instance.
    like_a_path = call_command("errors", "show", "app:pay", variables=SHOP, folder=folder)

    assert [each.returncode for each in (by_default, by_name, like_a_path)] == [0, 0, 0]
    assert "ValueError: 17" in by_default.stdout == by_name.stdout
    assert "ValueError: 18" in like_a_path.stdout


def test_wrong_path_is_not_taken_for_an_id(folder: Path) -> None:
    done = call_command("errors", "show", "app:shpo", "17", variables=SHOP, folder=folder)

    assert done.returncode == 2
    assert "app has no shpo; write app:shop or app:mails" in done.stderr


def test_without_a_default_the_instance_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEFERRABLE_APP", raising=False)

    for command in (["stats"], ["errors", "show"], ["items", "list"]):
        done = call_command(*command, variables={}, folder=folder)
        empty = call_command(*command, variables={"DEFERRABLE_APP": " "}, folder=folder)

        assert (done.returncode, empty.returncode) == (2, 2)
        assert "name the instance as MODULE:NAME, or set DEFERRABLE_APP" in done.stderr
        assert "DEFERRABLE_APP is set, but empty" in empty.stderr


@pytest.mark.parametrize("command", ["errors show 3fa1", "explain order-17", "enqueue refund 17"])
def test_an_id_or_job_without_an_instance_is_not_taken_for_one(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEFERRABLE_APP", raising=False)

    done = call_command(*command.split(), variables={}, folder=folder)
    module = call_command("errors", "show", "app", "17", variables={}, folder=folder)

    assert done.returncode == 2
    assert "is no instance; name the instance as MODULE:NAME, or set" in done.stderr
    assert "'app' names a module only; write app:shop" in module.stderr


@pytest.mark.parametrize("path", [".app:shop", "app..jobs:shop", ":shop", "app:"])
def test_what_is_no_path_is_not_imported(folder: Path, path: str) -> None:
    done = call_command("stats", path, variables={}, folder=folder)

    assert done.returncode == 2
    assert f"{path!r} is not a path to an instance; write MODULE:NAME" in done.stderr


def test_help_imports_nothing(folder: Path) -> None:
    (folder / "app.py").write_text("raise ValueError")

    done = call_command("errors", "show", "app:shop", "--help", variables=SHOP, folder=folder)

    assert (done.returncode, done.stderr) == (0, "")
    assert "[MODULE:NAME]" in done.stdout


def run(folder: Path, function: str) -> None:
    program = f"import app; app.{function}()"
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment({}), check=True)


def proposals(arguments: list[str], begun: str) -> list[str]:
    completing = ShellComplete(cli, {}, "deferrable", "_DEFERRABLE_COMPLETE")
    return [each.value for each in completing.get_completions(arguments, begun)]


def test_shell_is_offered_modules_and_then_their_instances(folder: Path) -> None:
    (folder / "broken.py").write_text("raise ValueError")

    with as_in_a_process_of_its_own(folder):
        assert proposals(["stats"], "a") == ["app:"]
        assert proposals(["stats"], "app:") == ["app:mails", "app:shop"]
        assert proposals(["stats", "app:mails"], "app:s") == ["app:shop"]
        assert proposals(["stats"], "broken:") == []
        assert "requeue" in proposals(["errors"], "r")


LAZY = """
class Settings:
    def __getattribute__(self, name):
        raise RuntimeError("settings are not configured")


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise RuntimeError(f"no {name} is configured")


settings = Settings()
"""


def test_object_that_cannot_say_its_class_hides_no_instance(folder: Path) -> None:
    (folder / "app.py").write_text(f"{LAZY}{APP}")

    with as_in_a_process_of_its_own(folder):
        assert proposals(["stats"], "app:") == ["app:mails", "app:shop"]
    told = {
        path: call_command("stats", path, variables={}, folder=folder).stderr
        for path in ("app", "app:settings", "app:other")
    }

    assert told == {
        "app": "Error: 'app' names a module only; write app:shop or app:mails\n",
        "app:settings": (
            "Error: app:settings is not an instance of Deferrable, but of Settings; write "
            "app:shop or app:mails\n"
        ),
        "app:other": (
            "Error: reading other of app raised RuntimeError: no other is configured; fix the "
            "module, or show the traceback with --debug\n"
        ),
    }


LOUD = """
import os, subprocess, sys

print("loaded")
print("loaded", file=sys.stderr)
os.write(1, b"loaded")
subprocess.run([sys.executable, "-c", "print('loaded')"])
"""
ENDLESS = """
import threading

threading.Thread(target=threading.Event().wait, name="ticker").start()
"""
TAB = {
    "_DEFERRABLE_COMPLETE": "bash_complete",
    "COMP_WORDS": "deferrable stats app:m",
    "COMP_CWORD": "2",
}


def test_bash_completes_in_a_process(folder: Path) -> None:
    (folder / "app.py").write_text(f"{LOUD}{ENDLESS}{APP}")

    done = run_command(variables=TAB, folder=folder)

    assert (done.stdout, done.stderr, done.returncode) == ("plain,app:mails\n", "", 0)


def test_command_ends_although_the_application_started_a_thread_that_does_not(
    folder: Path,
) -> None:
    saved = "import atexit\natexit.register(print, 'saved')\n"
    (folder / "app.py").write_text(f"{saved}{ENDLESS}{APP}")

    done = run_command("stats", variables={"DEFERRABLE_APP": "app:shop other"}, folder=folder)

    assert done.returncode == 2
    assert done.stdout == "saved\n"
    assert done.stderr.splitlines()[-1] == (
        "ended without waiting for 'ticker', started when the application was imported; make such "
        "threads daemons, or start them later"
    )


def test_command_waits_for_a_thread_that_ends_after_it(folder: Path) -> None:
    late = """
import threading


def save():
    threading.main_thread().join()
    print("saved")


threading.Thread(target=save).start()
"""
    (folder / "app.py").write_text(f"{late}{APP}")

    done = run_command("stats", "app:shop", variables={}, folder=folder)

    assert (done.stdout.splitlines()[-1], done.stderr, done.returncode) == ("saved", "", 0)


def test_commands_import_no_client_of_a_broker() -> None:
    clients = ["aiobotocore", "boto3", "redis", "sqlite3", "starlette", "prometheus_client"]
    code = f"import sys, deferrable.cli.app; print(sorted(sys.modules.keys() & {clients}))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "[]\n"


def test_the_cost_of_sqs_without_its_extra_is_an_error_that_names_it() -> None:
    code = "import sys; sys.modules['botocore'] = None; from deferrable.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code, "cost", "--jobs", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "[sqs]" in line
