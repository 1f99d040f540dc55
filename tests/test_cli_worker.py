"""``deferrable worker``: real processes, real signals, a real Redis."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_place import MAILS, STATS, Place, ask, worker
from commands import ASCII, Command
from redis_server import free_port, start_redis

from deferrable.cli.supervising import Beats, code_of, restart_seconds

UP = "running (process"


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Any:
    made = Place(redis_url, tmp_path)
    yield made
    made.close()


def test_worker_serves_instances_of_both_faces_in_one_process(place: Place) -> None:
    place.defer("count", "word")
    place.defer("send", "ada")

    with worker(place, STATS, MAILS) as command:
        command.wait_for("cli_app.jobs:count completed")
        command.wait_for("cli_app.jobs:send completed")
        command.wait_for("sent to ada")

        assert command.text.count(UP) == 1


def test_banner_names_version_backend_group_jobs_and_concurrency(place: Place) -> None:
    with worker(place, STATS, "--concurrency", "7") as command:
        command.wait_for("cli_app.jobs:wait_forever")

        banner = command.text
    for part in ("deferrable ", "DocketsQueue", place.group, "4 jobs", "concurrency 7"):
        assert part in banner


def test_a_prefetch_is_asked_for_and_told(place: Place) -> None:
    with worker(place, STATS, "-c", "1", "--prefetch", "20") as command:
        command.wait_for("concurrency 1, prefetch 20)")


def test_a_burst_ends_when_the_queues_are_empty(place: Place) -> None:
    place.defer("count", "word")
    place.defer("send", "ada")

    with worker(place, STATS, MAILS, "--burst", "--weights", "3,1") as command:
        assert command.end() == 0

        for part in ("count completed", "send completed", "in flight, 0 delayed", "stopped"):
            assert part in command.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--burst", "--processes", "2"], "--burst is for one process"),
        (["--weights", "3;1"], "numbers with commas between them, such as 3,1; got '3;1'"),
        (["--weights", "3,1"], "weights has 2 numbers for 1 instances; give one for each"),
    ],
)
def test_an_order_or_a_burst_that_cannot_be_is_refused(
    place: Place, options: list[str], message: str
) -> None:
    with worker(place, STATS, *options) as command:
        assert command.end() == 2

        assert message in command.text


def test_each_job_is_one_line_with_name_id_attempt_and_duration(place: Place) -> None:
    item_id = place.defer("count", "word")

    with worker(place, STATS) as command:
        command.wait_for("completed")

        (line,) = [line for line in command.text.splitlines() if item_id in line]
    assert " INFO " in line
    assert "cli_app.jobs:count completed in " in line
    assert f"(attempt 1, item {item_id})" in line


def test_json_log_is_one_object_a_line_with_a_field_for_each_number(place: Place) -> None:
    item_id = place.defer("divide", 1, 0)

    with worker(place, STATS, "--log-format", "json") as command:
        command.wait_for('"status"')
        command.send(signal.SIGTERM)
        assert command.end() == 0

        entries = [json.loads(line) for line in command.text.splitlines()]
    (job,) = [entry for entry in entries if "status" in entry]
    assert (job["job"], job["id"]) == ("cli_app.jobs:divide", item_id)
    assert (job["attempt"], job["status"]) == (1, "errored")
    assert job["error"] == "ZeroDivisionError: division by zero"
    assert job["duration_seconds"] >= 0
    assert any("ZeroDivisionError" in entry.get("traceback", "") for entry in entries)


def test_log_level_warning_leaves_out_what_went_well(place: Place) -> None:
    place.defer("count", "word")
    place.defer("divide", 1, 0)

    with worker(place, STATS, "--log-level", "warning") as command:
        command.wait_for("failed for good")
        command.send(signal.SIGTERM)
        command.end()

        assert "completed" not in command.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_an_idle_worker_ends_it_with_code_0(place: Place, number: signal.Signals) -> None:
    with worker(place, STATS) as command:
        command.wait_for(UP)
        command.send(number)

        assert command.end() == 0
        assert "Traceback" not in command.text


SLOW_IMPORT = """
import pathlib, time
pathlib.Path("begun").touch()
while True:
    time.sleep(0.01)
"""
SWALLOWING_IMPORT = """
import pathlib, time
from deferrable import Deferrable
from deferrable.backend import DocketsBackendFactory
try:
    pathlib.Path("begun").touch()
    while True:  # a signal just before one long sleep would be handled only after it
        time.sleep(0.01)
except BaseException:
    pass
instance = Deferrable(DocketsBackendFactory("redis://127.0.0.1:1/0").create_backend_for_group(None))
"""
SLOW_LIFESPAN = """
import asyncio, contextlib, pathlib
from deferrable import Deferrable
from deferrable.backend import DocketsBackendFactory

@contextlib.asynccontextmanager
async def lifespan():
    pathlib.Path("begun").touch()
    try:
        await asyncio.Event().wait()
        yield
    finally:
        print("left the lifespan", flush=True)

backend = DocketsBackendFactory("redis://127.0.0.1:1/0").create_backend_for_group(None)
instance = Deferrable(backend, lifespan=lifespan)
"""


def starting(tmp_path: Path, source: str, *options: str) -> Command:
    """A worker that has begun to start, of a module with this source."""
    (tmp_path / "starting.py").write_text(source)
    return Command("worker", "starting:instance", *options, variables={}, folder=tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("source", "told"),
    [
        (SLOW_IMPORT, ["stopped ({}) before any work (process "]),
        (SWALLOWING_IMPORT, ["stopping ({}): ", "stopped (process "]),
        (SLOW_LIFESPAN, ["stopping ({}): ", "left the lifespan", "stopped (process "]),
    ],
    ids=["import", "import that swallows it", "lifespan"],
)
def test_signal_while_a_worker_starts_ends_it_with_code_0(
    tmp_path: Path, source: str, told: list[str], number: signal.Signals
) -> None:
    with starting(tmp_path, source) as command:
        command.wait_until((tmp_path / "begun").exists, "it starts")
        command.send(number)

        assert command.end() == 0
    lines = command.text.splitlines()
    assert len(lines) == len(told)
    for line, part in zip(lines, told, strict=True):
        assert part.format(number.name) in line


def test_signal_while_processes_start_ends_all_with_code_0(tmp_path: Path) -> None:
    with starting(tmp_path, SLOW_IMPORT, "--processes", "2") as command:
        command.wait_until((tmp_path / "begun").exists, "one of them imports")
        command.send(signal.SIGINT)

        assert command.end() == 0
    assert "Traceback" not in command.text


def test_signal_while_reload_waits_for_a_change_ends_it_with_code_0(tmp_path: Path) -> None:
    with starting(tmp_path, "raise ValueError('half written')", "--reload") as command:
        command.wait_for("waiting for a change")
        command.send(signal.SIGTERM)

        assert command.end() == 0
    assert command.text.splitlines()[-1].split(" INFO ")[1].strip().startswith("stopped (SIGTERM)")


def test_running_plain_function_ends_within_the_grace_period(place: Place) -> None:
    started, released = place.path("started"), place.path("released")
    place.defer("block_until", started, released)

    with worker(place, MAILS) as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.send(signal.SIGTERM)
        command.wait_for("stopping (SIGTERM)")
        Path(released).touch()

        assert command.end() == 0
        assert "block_until completed" in command.text
    assert place.waiting(is_mails=True) == 0


def test_async_job_is_cancelled_after_the_grace_period_and_given_back(place: Place) -> None:
    started = place.path("started")
    place.defer("wait_forever", started)

    with worker(place, STATS, "--grace", "0.2") as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.send(signal.SIGTERM)

        assert command.end() == 0
        assert "wait_forever released" in command.text
    assert place.attempts_of_waiting() == [0]


def test_plain_function_still_running_is_given_back_as_the_process_ends_with_3(
    place: Place,
) -> None:
    started = place.path("started")
    place.defer("block_forever", started)

    with worker(place, MAILS, "--grace", "0.1") as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.send(signal.SIGTERM)
        command.wait_for("stopping (SIGTERM)")
        assert place.waiting(is_mails=True) == 0

        assert command.end() == 3
        assert "block_forever (item " in command.text
        assert "has not ended after " in command.text
    assert place.attempts_of_waiting(is_mails=True) == [0]


def test_exporters_send_what_they_have_before_a_forced_end(place: Place) -> None:
    started, sent = place.path("started"), Path(place.path("sent"))
    place.variables["SENT"] = str(sent)
    place.defer("fail", "no", max_attempts=1)
    place.defer("block_forever", started)

    with worker(place, "cli_app.telling:mails", "--grace", "0.1") as command:
        command.wait_for("is in the error queue")
        command.wait_until(lambda: Path(started).exists(), "the other job runs")
        command.send(signal.SIGTERM)

        assert command.end() == 3
    assert sorted(sent.read_text().split()) == ["event", "process"]


def test_second_signal_leaves_at_once_and_gives_async_items_back(place: Place) -> None:
    started = place.path("started")
    place.defer("wait_forever", started)

    with worker(place, STATS, "--grace", "600") as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.send(signal.SIGTERM)
        command.wait_for("stopping (SIGTERM)")
        command.send(signal.SIGTERM)

        assert command.end() == 3
    assert place.attempts_of_waiting() == [0]


def test_second_and_third_signal_end_a_process_whose_loop_a_job_holds(place: Place) -> None:
    started = place.path("started")
    place.defer("hold_the_loop", started)

    with worker(place, STATS, "--grace", "600") as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.send(signal.SIGTERM)
        command.wait_for("stopping (SIGTERM)")
        command.send(signal.SIGTERM)
        command.wait_for("the grace period ends now")
        command.send(signal.SIGTERM)

        assert command.end() == 3
    assert place.attempts_of_waiting() == [0]


def test_given_back_item_runs_in_the_next_worker(place: Place) -> None:
    started, released = place.path("started"), place.path("released")
    place.defer("block_until", started, released)
    with worker(place, MAILS, "--grace", "0.1") as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.send(signal.SIGTERM)
        assert command.end() == 3
    Path(released).touch()

    with worker(place, MAILS) as command:
        command.wait_for("block_until completed in")


def test_unreachable_broker_is_one_line_and_work_begins_when_it_is_there(tmp_path: Path) -> None:
    port = free_port()
    variables = {"REDIS_URL": f"redis://127.0.0.1:{port}/0", "GROUP": "late"}

    with Command("worker", STATS, variables=variables) as command:
        command.wait_for("cannot be polled, the worker retries")
        with start_redis(port) as server:
            place = Place(server.url, tmp_path)
            place.group = "late"
            place.defer("count", "word")
            command.wait_for("count completed")
            command.send(signal.SIGTERM)
            assert command.end() == 0
            place.close()
        assert command.text.count("cannot be polled") == 1
        assert command.text.count("is back after") == 1
        assert "Traceback" not in command.text


# Health.


def test_health_is_200_with_the_age_of_the_last_poll_of_each_queue(place: Place) -> None:
    port = free_port()
    with worker(place, STATS, "--health-port", str(port)) as command:
        command.wait_for(UP)

        status, answer = ask(f"http://127.0.0.1:{port}/health")
    assert (status, answer["status"]) == (200, "healthy")
    ((name, queue),) = answer["queues"].items()
    assert place.group in name
    assert queue["poll_age_seconds"] < 30


def test_health_is_503_while_the_broker_cannot_be_reached() -> None:
    port = free_port()
    variables = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "GROUP": "gone"}
    with Command("worker", STATS, "--health-port", str(port), variables=variables) as command:
        command.wait_for("cannot be polled")
        command.wait_for(UP)

        status, answer = ask(f"http://127.0.0.1:{port}/health")
    assert (status, answer["status"]) == (503, "unhealthy")


def test_health_answers_while_a_job_holds_the_loop(place: Place) -> None:
    port, started = free_port(), place.path("started")
    place.defer("hold_the_loop", started)
    with worker(place, STATS, "--health-port", str(port)) as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")

        assert ask(f"http://127.0.0.1:{port}/health")[0] in (200, 503)


def test_anything_but_health_is_404_and_anything_but_get_405(place: Place) -> None:
    port = free_port()
    with worker(place, STATS, "--health-port", str(port)) as command:
        command.wait_for(UP)

        assert ask(f"http://127.0.0.1:{port}/")[0] == 404
        assert ask(f"http://127.0.0.1:{port}/health", "POST")[0] == 405


def test_health_is_answered_on_the_loopback_interface_alone_unless_told(place: Place) -> None:
    port = free_port()
    with worker(place, STATS, "--health-port", str(port)) as command:
        command.wait_for(UP)

        with pytest.raises(OSError, match=r"refused|unreachable"):
            socket.create_connection(("127.0.0.2", port), 1).close()


def test_taken_health_port_is_one_line_and_code_1(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with worker(place, STATS, "--health-port", port) as command:
            assert command.end() == 1
    (line,) = command.text.splitlines()
    assert line.startswith(f"Error: cannot serve health on 127.0.0.1:{port}: ")


# Several processes.


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in listed.split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_ascii_stream_gets_the_log_of_a_job_with_other_characters(place: Place) -> None:
    place.defer("fail", "помилка")
    variables = {**place.variables, **ASCII}

    with Command("worker", MAILS, variables=variables) as command:
        command.wait_for(r"ValueError: \u043f\u043e\u043c", 2)  # in the record and the traceback
        command.send(signal.SIGTERM)

        assert command.end() == 0
    assert command.text.isascii()


def test_processes_are_started_and_a_signal_ends_all_with_code_0(place: Place) -> None:
    with worker(place, STATS, "--processes", "2") as command:
        command.wait_for(UP, 2)
        children = children_of(command.process.pid)
        command.send(signal.SIGINT)

        assert command.end() == 0
    assert len(children) == 2
    assert not any(map(is_running, children))
    numbers = {line[1]: int(line[2]) for line in re.finditer(r"\[(\d):(\d+)\]", command.text)}
    assert sorted(numbers) == ["1", "2"]
    assert sorted(numbers.values()) == sorted(children)


def test_one_process_that_dies_is_started_again(place: Place) -> None:
    with worker(place, MAILS, "--processes", "1") as command:
        command.wait_for(UP)
        place.defer("die")
        command.wait_for("died (exit code 9)")
        command.wait_for(UP, 2)
        command.send(signal.SIGTERM)

        assert command.end() == 0


def test_one_process_that_is_stuck_is_replaced(place: Place) -> None:
    started = place.path("started")
    place.defer("hold_the_loop", started)
    options = ["--processes", "1", "--stuck-seconds", "1"]
    with worker(place, STATS, *options) as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.wait_for("is stuck: its event loop does not turn; it is replaced")
        command.wait_for(UP, 2)


@pytest.mark.parametrize(
    ("heard", "is_to_be_replaced"),
    [
        ([b""] * 10_000, False),  # It starts, which may take any time.
        ([b"+", *[b""] * 120], False),
        ([b"+", *[b""] * 140], True),
        ([b"+", *[b""] * 120, b"+", *[b""] * 120], False),
        ([b"+++-"], True),
        ([b"+-", b"-+"], False),
        ([b"+-", b""], True),
    ],
)
def test_a_process_is_stuck_that_says_so_or_falls_silent(
    heard: list[bytes], is_to_be_replaced: bool
) -> None:
    beats = Beats()
    for data in heard:
        beats.note(data, 0.25)

    assert (beats.fault(stuck_seconds=27) is not None) == is_to_be_replaced


def test_the_time_in_which_the_supervisor_was_stopped_is_no_silence() -> None:
    beats = Beats()
    beats.note(b"+", 0.1)
    beats.note(b"", 3600)

    assert beats.fault(stuck_seconds=10) is None


def test_second_signal_is_handed_on_to_the_processes(place: Place) -> None:
    started = place.path("started")
    place.defer("wait_forever", started)
    with worker(place, STATS, "--processes", "2", "--grace", "600") as command:
        command.wait_for(UP, 2)
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.send(signal.SIGTERM)
        command.wait_for("stopping (SIGTERM)", 2)
        command.send(signal.SIGTERM)

        assert command.end() == 3
    assert place.attempts_of_waiting() == [0]


def test_processes_stop_when_their_parent_is_killed(place: Place) -> None:
    with worker(place, STATS, "--processes", "2") as command:
        command.wait_for(UP, 2)
        children = children_of(command.process.pid)
        command.send(signal.SIGKILL)

        command.wait_until(lambda: not any(map(is_running, children)), "the children ended")


def test_wrong_path_ends_all_processes_with_code_2(place: Place) -> None:
    with worker(place, "cli_app.jobs:nothing", "--processes", "2") as command:
        assert command.end() == 2


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([0, -signal.SIGTERM], 0),
        ([0, 3], 3),
        ([3, -signal.SIGKILL], 1),
        ([1, 0], 1),
        ([2, 1, 3], 2),
    ],
)
def test_supervisor_exits_with_the_worst_that_its_processes_did(
    codes: list[int], code: int
) -> None:
    assert code_of(codes) == code


def test_process_that_dies_again_and_again_is_started_later_each_time() -> None:
    waits = [restart_seconds(deaths) for deaths in range(1, 10)]

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


# Reload.

MODULE = """
import os
from deferrable import Deferrable
from deferrable.backend import DocketsBackendFactory

backend = DocketsBackendFactory(os.environ["REDIS_URL"], wait_time=1)
instance = Deferrable(backend.create_backend_for_group(os.environ["GROUP"]))

@instance.deferrable
def {name}(): ...
"""


def write(path: Path, text: str) -> None:
    """Write it in one step, with a moment that no earlier version had."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    moment = time.time_ns()
    os.utime(draft, ns=(moment, moment))
    draft.replace(path)


def reloading(tmp_path: Path, variables: Mapping[str, str]) -> Command:
    arguments = ("worker", "changing:instance", "--reload")
    return Command(*arguments, variables=variables, folder=tmp_path)


def test_reload_restarts_when_an_imported_module_changes(place: Place, tmp_path: Path) -> None:
    write(tmp_path / "changing.py", MODULE.format(name="first"))
    with reloading(tmp_path, place.variables) as command:
        command.wait_for("changing:first")
        write(tmp_path / "changing.py", MODULE.format(name="second"))
        command.wait_for("changing:second")

        assert "changing.py has changed" in command.text
        command.send(signal.SIGTERM)
        assert command.end() == 0


def test_reload_waits_for_a_change_while_the_module_is_broken(place: Place, tmp_path: Path) -> None:
    write(tmp_path / "changing.py", "raise ValueError('half written')")
    with reloading(tmp_path, place.variables) as command:
        command.wait_for("half written")
        command.wait_for("waiting for a change")
        write(tmp_path / "changing.py", MODULE.format(name="fixed"))

        command.wait_for("changing:fixed")
