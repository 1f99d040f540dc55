"""Closed, broken and ASCII-only standard streams, and signals before a worker has begun."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from commands import ASCII, Command, environment

from deferrable.cli.streams import _Output

APP = """
from deferrable import Deferrable
from deferrable.backend import DocketsBackendFactory

backend = DocketsBackendFactory("redis://127.0.0.1:1/0").create_backend_for_group("пошта")
instance = Deferrable(backend)

@instance.deferrable(name="лист")
def send(): ...
"""
COLOUR = "\x1b["
NOISY = """
from deferrable import Deferrable, backend

print("printed at import")
shop = Deferrable(backend.from_url("sqlite:///jobs.db").create_backend_for_group("shop"))

@shop.deferrable
def pay(): ...
"""
COMMAND = f"{sys.executable} -m deferrable jobs streams_app:instance"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "streams_app.py").write_text(APP, encoding="utf-8")
    return tmp_path


def run_shell(line: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", line],
        env=environment(variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    "ending",
    ["<&- >&- 2>&-", "2>&-", "| true; exit ${PIPESTATUS[0]}"],
)
def test_a_command_whose_output_nobody_reads_ends_with_0(folder: Path, ending: str) -> None:
    done = run_shell(f"{COMMAND} {ending}", folder)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_whose_output_is_incomplete_says_so(folder: Path) -> None:
    done = run_shell(f"{COMMAND} >/dev/full", folder)

    assert done.returncode == 1
    assert done.stderr == "Error: standard output is not complete: No space left on device\n"


@pytest.mark.parametrize("option", ["", "--json"])
def test_names_that_an_ascii_stream_cannot_show_are_escaped(folder: Path, option: str) -> None:
    done = run_shell(f"{COMMAND} {option}", folder, **ASCII)

    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u043b\u0438\u0441\u0442" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    # The last one is looked up before the options are read: is it an instance, or a job?
    ["stats noisy_app:shop", "stats", "enqueue noisy_app:pay"],
)
def test_json_is_alone_on_standard_output_when_a_module_prints(
    folder: Path, arguments: str
) -> None:
    (folder / "noisy_app.py").write_text(NOISY)

    line = f"{sys.executable} -m deferrable {arguments} --json"
    done = run_shell(line, folder, DEFERRABLE_APP="noisy_app:shop")

    assert (done.returncode, done.stderr) == (0, "printed at import\n")
    assert json.loads(done.stdout)


def test_json_is_alone_when_a_program_prints_that_a_module_starts(folder: Path) -> None:
    starts = "import os\nos.system('echo version 7')\n"
    (folder / "noisy_app.py").write_text(f"{starts}{NOISY}")
    line = f"{sys.executable} -m deferrable stats noisy_app:shop --json"

    done = run_shell(line, folder)
    full = run_shell(f"{line} >/dev/full", folder)

    assert (done.returncode, done.stderr) == (0, "version 7\nprinted at import\n")
    assert json.loads(done.stdout)
    assert full.returncode == 1
    assert "standard output is not complete" in full.stderr


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_a_terminal_gets_no_colours_that_it_does_not_want(
    folder: Path, variables: dict[str, str], is_coloured: bool
) -> None:
    # The first one logs an error, and the second one ends with an error.
    for arguments in (["worker", "streams_app:instance"], ["stats", "streams_app:nothing"]):
        terminal, end = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "deferrable", *arguments],
            env=environment({"TERM": "xterm", "NO_COLOR": ""} | variables),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=end,
        )
        os.close(end)
        text = ""
        with suppress(OSError):  # that is how a terminal without a program ends
            while "error" not in text.lower():
                text += os.read(terminal, 10_000).decode()
        process.kill()
        process.wait()
        os.close(terminal)

        assert "error" in text.lower()
        assert (COLOUR in text) == is_coloured


@pytest.mark.parametrize("processes", [[], ["--processes", "1"]])
def test_a_worker_whose_streams_are_closed_stops_in_order(
    folder: Path, processes: list[str]
) -> None:
    mark = folder / "imported"
    with (folder / "streams_app.py").open("a", encoding="utf-8") as source:
        source.write("print('out'); import pathlib; pathlib.Path('imported').touch()\n")
    arguments = " ".join(["worker", "streams_app:instance", *processes])
    line = f"exec {sys.executable} -m deferrable {arguments} <&- >&- 2>&-"

    with subprocess.Popen(["bash", "-c", line], cwd=folder, env=environment(ASCII)) as process:
        watch = threading.Timer(60, process.kill)
        watch.start()
        while not mark.exists() and process.poll() is None:
            watch.finished.wait(0.01)
        process.terminate()
        code = process.wait()
        watch.cancel()

    assert code == 0


def test_a_signal_while_a_worker_imports_the_command_line_ends_it_with_0(folder: Path) -> None:
    # Imported in place of click, before any of the command's own handlers are there.
    (folder / "click.py").write_text(
        "import pathlib, time\npathlib.Path('begun').touch()\nwhile True: time.sleep(0.01)\n"
    )
    with Command("worker", "streams_app:instance", variables={}, folder=folder) as command:
        command.wait_until((folder / "begun").exists, "it imports click")
        command.send(signal.SIGTERM)

        assert command.end() == 0
    assert command.text == ""


def test_what_cannot_be_written_is_dropped_and_the_reason_kept() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    output = _Output(writer, "<output>")

    written = output.write(b"lost")
    os.close(writer)

    assert written == 4
    assert isinstance(output.error, BrokenPipeError)
