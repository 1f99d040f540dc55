"""Whether a worker process says the truth about itself: over HTTP, in a file, and to systemd."""

import asyncio
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from cli_place import MAILS, STATS, Place, ask, worker
from commands import Command
from faces import Face
from processes import DEADLINE_SECONDS
from redis_server import free_port, unique_group

from deferrable.aio._engine.keeper import Keeper
from deferrable.aio.worker import Health
from deferrable.aio.worker._health import SILENCE_SECONDS
from deferrable.cli.beats import HeartbeatFile, systemd_of
from deferrable.cli.command_error import CommandError
from deferrable.cli.vitals import Vitals
from deferrable.testing import wait_until

UP = "running (process"
NEVER_SECONDS = 3600.0


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Any:
    made = Place(redis_url, tmp_path)
    yield made
    made.close()


# Ready: the decision.


@pytest.fixture
def face() -> Face:
    return Face("awaiting", lease_seconds=20.0)


def working(face: Face) -> Health:
    health = Health([face.backend.queue])
    health.note_start()
    return health


def test_a_worker_is_ready_once_a_poll_was_answered(face: Face) -> None:
    health = working(face)
    before = health.obstacles()

    health.note_poll(face.backend.queue, None)

    assert "the first poll is not answered yet" in before[0]
    assert health.is_ready


def test_a_worker_that_starts_or_stops_is_not_ready(face: Face) -> None:
    health = Health([face.backend.queue])
    health.note_poll(face.backend.queue, None)
    before = health.obstacles()
    health.note_start()
    health.note_stop()

    assert before == ["the worker is starting"]
    assert health.obstacles() == ["the worker is stopping"]


def test_a_worker_that_was_stopped_while_it_started_does_not_become_ready(face: Face) -> None:
    health = Health([face.backend.queue])
    health.note_stop()
    health.note_start()

    assert health.obstacles() == ["the worker is stopping"]


def test_a_worker_whose_slots_are_taken_is_ready_without_any_poll(face: Face) -> None:
    health = working(face)
    health.note_pause(face.backend.queue)

    assert health.is_ready


def test_a_poll_that_failed_or_is_not_answered_is_an_obstacle(face: Face) -> None:
    queue, health = face.backend.queue, working(face)
    health.note_poll(queue, ConnectionError("gone"))
    failed = health.obstacles()
    health.note_poll(queue, None)
    face.clock.advance(SILENCE_SECONDS + 1)
    health.note_touch(queue, None)

    assert failed == [f"{queue!r}: gone"]
    assert health.obstacles() == [f"{queue!r}: the broker does not answer"]


@pytest.mark.anyio
async def test_a_worker_is_ready_from_its_start_to_its_stop(face: Face) -> None:
    worker = face.instance.worker()
    async with worker:
        await wait_until(lambda: worker.health.is_ready, "it is ready")
        worker.stop()

        assert not worker.health.is_ready


@pytest.mark.anyio
async def test_a_worker_of_a_paused_queue_is_not_ready_until_it_is_resumed(face: Face) -> None:
    async with face.instance.worker() as worker:
        await wait_until(lambda: worker.health.is_ready, "it is ready")
        await face.instance.pause(reason="deploy")
        await wait_until(lambda: not worker.health.is_ready, "it sees the pause")
        obstacles = worker.health.obstacles()
        await face.instance.resume()
        await wait_until(lambda: worker.health.is_ready, "it sees the end")

    assert [each.partition(": ")[2] for each in obstacles] == ["paused ('deploy')"]


# Live: the questions.


@contextmanager
def turning_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def hold(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Block the loop; return what lets it go."""
    held, released = threading.Event(), threading.Event()

    def block() -> None:
        held.set()
        released.wait(DEADLINE_SECONDS)

    loop.call_soon_threadsafe(block)
    held.wait(DEADLINE_SECONDS)
    return released.set


@pytest.mark.anyio
@pytest.mark.parametrize("held", ["loop", "keeper"])
async def test_a_loop_that_is_held_for_too_long_is_stuck_until_it_turns(held: str) -> None:
    with turning_loop() as loop, turning_loop() as keeper_loop:
        release = hold(loop if held == "loop" else keeper_loop)
        with Vitals(loop, Keeper(keeper_loop), stuck_seconds=1.0) as vitals:
            assert vitals.is_live
            await wait_until(lambda: not vitals.is_live, "it is stuck")
            release()
            await wait_until(lambda: vitals.is_live, "it is live again")


@pytest.mark.anyio
async def test_a_loop_that_is_held_for_a_while_is_live() -> None:
    beats: list[bool] = []
    with turning_loop() as loop:
        release = hold(loop)
        with Vitals(loop, Keeper(loop), NEVER_SECONDS, [beats.append]) as vitals:
            await wait_until(lambda: vitals.held_seconds > 1, "it is held")

            assert vitals.is_live
            release()
    assert all(beats)


@pytest.mark.anyio
async def test_a_keeper_with_nothing_to_keep_is_live() -> None:
    with turning_loop() as loop, Vitals(loop, Keeper(), NEVER_SECONDS) as vitals:
        assert vitals.is_live


# A real process.


def test_an_outage_of_the_broker_ends_readiness_and_not_the_process(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "heartbeat"
    variables = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "GROUP": "gone"}
    arguments = ["--health-port", str(port), "--heartbeat-file", str(file)]
    with Command("worker", STATS, *arguments, variables=variables) as command:
        command.wait_for("cannot be polled")
        command.wait_for(UP)

        live, ready = (ask(f"http://127.0.0.1:{port}/{path}") for path in ("live", "ready"))
        beat = file.stat().st_mtime_ns
        command.wait_until(lambda: file.stat().st_mtime_ns > beat, "the file is touched")
        assert file.read_text() == "not ready\n"
    assert (live[0], live[1]["status"]) == (200, "live")
    assert (ready[0], ready[1]["status"]) == (503, "not ready")
    assert "cannot be reached" in ready[1]["reasons"][0]


def test_a_worker_is_live_and_ready_and_its_file_goes_with_it(place: Place) -> None:
    port, file = free_port(), Path(place.path("heartbeat"))
    arguments = ["--health-port", str(port), "--heartbeat-file", str(file)]
    with worker(place, STATS, *arguments) as command:
        command.wait_for(UP)
        url = f"http://127.0.0.1:{port}"
        command.wait_until(lambda: ask(f"{url}/ready")[0] == 200, "it is ready")
        command.wait_until(lambda: file.read_text() == "ready\n", "the file says so")

        assert ask(f"{url}/live")[0] == 200
        command.send(signal.SIGTERM)
        assert command.end() == 0
    assert not file.exists()


def test_a_worker_that_stops_is_live_and_not_ready(place: Place) -> None:
    port, started = free_port(), place.path("started")
    place.defer("block_forever", started)
    with worker(place, MAILS, "--health-port", str(port)) as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        command.send(signal.SIGTERM)
        command.wait_for("stopping (SIGTERM)")

        url = f"http://127.0.0.1:{port}"
        command.wait_until(lambda: ask(f"{url}/ready")[0] == 503, "it is not ready")
        assert ask(f"{url}/ready")[1]["reasons"] == ["the worker is stopping"]
        assert ask(f"{url}/live")[0] == 200


def test_a_job_that_holds_the_loop_is_live_until_stuck_seconds(place: Place) -> None:
    port, started, file = free_port(), place.path("started"), Path(place.path("heartbeat"))
    place.defer("hold_the_loop", started)
    options = ["--health-port", str(port), "--heartbeat-file", str(file)]
    with worker(place, STATS, *options, "--stuck-seconds", "3") as command:
        command.wait_until(lambda: Path(started).exists(), "the job runs")
        url = f"http://127.0.0.1:{port}"
        status, answer = ask(f"{url}/live")
        assert status == 200 or answer["held_seconds"] >= 3

        command.wait_until(lambda: ask(f"{url}/live")[0] == 503, "it is stuck")
        command.wait_for("this process is stuck")
        before = file.stat().st_mtime_ns
        command.wait_until(lambda: ask(f"{url}/live")[1]["held_seconds"] > 6, "time goes by")
        assert file.stat().st_mtime_ns == before


def test_a_stuck_job_is_not_given_back_as_if_nothing_had_happened(place: Place) -> None:
    """Or behind a liveness probe it restarts workers for ever, and never counts as failed."""
    started, beat = place.path("started"), place.path("heartbeat")
    place.defer("hold_the_loop", started)
    options = ["--heartbeat-file", beat, "--stuck-seconds", "1", "--grace", "0"]
    with worker(place, STATS, *options) as command:
        command.wait_for("this process is stuck")
        command.send(signal.SIGTERM)

        assert command.end() == 3
    assert "holds the event loop: its item is not given back" in command.text
    assert place.waiting() == 0


def test_a_heartbeat_file_that_cannot_be_written_is_one_line_and_code_1(place: Place) -> None:
    path = place.path("lacking/heartbeat")
    with worker(place, STATS, "--heartbeat-file", path) as command:
        assert command.end() == 1
    assert f"Error: cannot write {path}: No such file or directory" in command.text


def test_a_device_or_pipe_is_no_heartbeat_file_and_stays(face: Face, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    with pytest.raises(CommandError, match="pipe: it is no ordinary file"):
        HeartbeatFile(path, working(face))

    assert path.is_fifo()


def test_a_heartbeat_file_that_cannot_be_deleted_does_not_fail_the_stop(
    face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = HeartbeatFile(tmp_path / "heartbeat", working(face))

    def unlink(*_: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        file.remove()

    assert "cannot delete the heartbeat file" in caplog.text


# systemd.


class ServiceManager:
    """The socket of systemd, which a service tells how it is."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self._socket.settimeout(DEADLINE_SECONDS)
        self.heard: list[str] = []

    def wait_for(self, text: str) -> None:
        while text not in self.heard:
            self.heard += self._socket.recv(4096).decode().split("\n")

    def count_for(self, seconds: float, text: str) -> int:
        """How often it hears `text` in a time."""
        self._socket.settimeout(seconds)
        before = self.heard.count(text)
        try:
            while True:
                self.heard += self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return self.heard.count(text) - before

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._socket.close()


def as_service(place: Place, address: str, *arguments: str) -> Command:
    variables = {**place.variables, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}
    return Command("worker", STATS, *arguments, variables=variables)


def test_systemd_hears_of_the_start_each_beat_and_the_stop(place: Place) -> None:
    address = place.path("notify")
    with ServiceManager(address) as manager, as_service(place, address) as command:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1")
        command.send(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert command.end() == 0


def test_systemd_hears_nothing_of_a_process_that_is_stuck(place: Place) -> None:
    address, started = place.path("notify"), place.path("started")
    place.defer("hold_the_loop", started)
    with (
        ServiceManager(address) as manager,
        as_service(place, address, "--stuck-seconds", "1") as command,
    ):
        command.wait_for("this process is stuck")
        manager.count_for(1, "WATCHDOG=1")

        assert manager.count_for(2, "WATCHDOG=1") == 0


def test_several_processes_have_a_file_each_and_their_supervisor_speaks_to_systemd(
    place: Place,
) -> None:
    address, file = place.path("notify"), Path(place.path("heartbeat"))
    options = ["--processes", "2", "--heartbeat-file", str(file)]
    with ServiceManager(address) as manager, as_service(place, address, *options) as command:
        manager.wait_for("WATCHDOG=1")
        second = file.with_name("heartbeat.2")
        command.wait_until(lambda: file.exists() and second.exists(), "both have a file")
        command.wait_for(UP, count=2)
        command.send(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert command.end() == 0
    assert manager.heard.count("READY=1") == 1


def test_an_abstract_address_of_systemd_is_understood() -> None:
    address = f"@{unique_group('notify-')}"
    with ServiceManager(address) as manager:
        systemd = systemd_of({"NOTIFY_SOCKET": address})
        assert systemd is not None
        systemd.tell_ready()

        manager.wait_for("READY=1")


def test_a_service_manager_that_is_gone_changes_nothing(place: Place) -> None:
    with as_service(place, place.path("nobody")) as command:
        command.wait_for("systemd does not hear this process")
        command.wait_for(UP)
        command.send(signal.SIGTERM)
        assert command.end() == 0


def test_only_the_process_that_systemd_means_is_watched() -> None:
    meant = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid())}
    found = [
        systemd_of(meant),
        systemd_of({**meant, "WATCHDOG_PID": "1"}),
        systemd_of({"NOTIFY_SOCKET": "/run/n"}),
    ]

    assert [each is not None and each.watches for each in found] == [True, False, False]
    assert systemd_of({}) is None
    assert systemd_of({"NOTIFY_SOCKET": "relative"}) is None
