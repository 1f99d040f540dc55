"""``deferrable pause`` and ``resume``, and what a worker, its health and ``stats`` say of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from commands import Command, call_command
from redis_server import RedisServer, free_port, unique_group

from deferrable import Deferrable
from deferrable.backend import DocketsBackendFactory

STATS, MAILS = "cli_app.jobs:stats", "cli_app.jobs:mails"


@pytest.fixture
def variables(redis_server: RedisServer) -> dict[str, str]:
    return {"REDIS_URL": redis_server.url, "GROUP": unique_group("cli-"), "COLUMNS": "120"}


@pytest.fixture
def mails(variables: dict[str, str]) -> Iterator[Deferrable]:
    """An instance with the queue of `MAILS`."""
    factory = DocketsBackendFactory(variables["REDIS_URL"])
    with Deferrable(factory.create_backend_for_group(f"{variables['GROUP']}-mails")) as made:
        yield made
        made.resume()
        made.backend.queue.flush()


@pytest.fixture
def call(variables: dict[str, str]) -> Any:
    def run(*arguments: str) -> Any:
        return call_command(*arguments, variables=variables)

    return run


def test_pause_and_resume_say_what_they_did(call: Any, mails: Deferrable) -> None:
    done = call("pause", MAILS, "--reason", "deploy", "--for", "600")

    assert (done.returncode, done.stdout) == (0, f"{MAILS}: paused\n")
    pause = mails.find_pause()
    assert pause is not None
    assert pause.reason == "deploy"
    assert pause.until_time == pytest.approx(pause.since_time + 600)
    assert call("resume", MAILS, STATS).stdout == f"{MAILS}: resumed\n{STATS}: was not paused\n"
    assert not mails.is_paused()


def test_pause_prints_json(call: Any, mails: Deferrable) -> None:
    paused = json.loads(call("pause", MAILS, "--json").stdout)
    resumed = json.loads(call("resume", MAILS, "--json").stdout)

    assert paused == [{"instance": MAILS, "is_paused": True, "old_consumers": 0}]
    assert resumed == [{"instance": MAILS, "is_paused": False, "was_paused": True}]


@pytest.mark.parametrize("seconds", ["0", "-1", "soon"])
def test_pause_refuses_a_time_that_makes_no_sense(call: Any, seconds: str) -> None:
    done = call("pause", MAILS, "--for", seconds)

    assert done.returncode == 2
    assert "--for" in done.stderr


def test_pause_of_a_queue_in_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from deferrable import Deferrable\n"
        "from deferrable.backend import InMemoryBackendFactory\n"
        "shop = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))\n"
    )

    done = call_command("pause", "shop:shop", variables={}, folder=tmp_path)

    assert done.returncode == 2
    assert "in memory" in done.stderr


def test_reason_with_bytes_that_are_no_text_is_shown(call: Any, mails: Deferrable) -> None:
    done = call("pause", MAILS, "--reason", "caf\udce9")

    assert done.returncode == 0
    pause = mails.find_pause()
    assert pause is not None
    assert pause.reason == "caf\\udce9"


def test_stats_shows_a_pause(call: Any, mails: Deferrable) -> None:
    mails.pause(for_seconds=7200, reason="deploy [red]\n")

    shown = call("stats", MAILS, STATS).stdout
    paused, free = json.loads(call("stats", MAILS, STATS, "--json").stdout)

    assert f"{MAILS} has been paused for 0 s, and goes on in 2 h: deploy [red]\\n" in shown
    assert paused["pause"]["reason"] == "deploy [red]\n"
    assert free["pause"] is None


def test_a_pause_says_which_consumers_know_nothing_of_it(
    call: Any, mails: Deferrable, redis_server: RedisServer, variables: dict[str, str]
) -> None:
    working = f"queue.deferrable_{variables['GROUP']}-mails.old.working"
    with redis_server.client() as client:
        client.lpush(working, '{"item": {"n": 1}}')
        done = call("pause", MAILS)
        shown = call("stats", MAILS).stdout
        client.delete(working)

    assert "1 consumers of the Python 2 library hold items" in done.stderr
    assert "(consumers of the Python 2 library go on with 1)" in shown


def test_a_queue_that_cannot_be_paused_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sqs_shop.py").write_text(
        "from deferrable import Deferrable\n"
        "from deferrable.backend import SQSBackendFactory\n"
        'shop = Deferrable(SQSBackendFactory().create_backend_for_group("shop"))\n'
    )

    for command in ("pause", "resume"):
        done = call_command(command, "sqs_shop:shop", variables={}, folder=tmp_path)

        assert done.returncode == 1
        assert "cannot be paused; the backends in memory, in Redis (Dockets) and in" in done.stderr


def test_a_worker_process_is_paused_and_resumed_from_the_command_line(
    call: Any, mails: Deferrable, variables: dict[str, str]
) -> None:
    port = free_port()
    send = mails.deferrable(name="cli_app.jobs:send")(print)
    with Command("worker", MAILS, "--health-port", str(port), variables=variables) as worker:
        worker.wait_for("works on")
        call("pause", MAILS, "--reason", "deploy")
        worker.wait_for("is paused (reason: 'deploy')")
        with urlopen(f"http://127.0.0.1:{port}/health") as response:
            health = json.load(response)
        send.later("ada")
        assert mails.backend.queue.stats()["available"] == 1
        call("resume", MAILS)
        worker.wait_for("sent to ada")
        worker.wait_for("is not paused any more")
        call("pause", MAILS)
        worker.wait_for("is paused, so")

    (queue,) = health["queues"].values()
    assert health["status"] == "healthy"
    assert queue["pause"]["reason"] == "deploy"
    with Command("worker", MAILS, variables=variables) as worker:
        worker.wait_for(", paused")
        worker.wait_for("is paused, so")
