"""``deferrable move``: from one broker to another, while both are at work."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from commands import Command, call_command
from processes import DEADLINE_SECONDS, ROOT
from redis_server import RedisServer, unique_group
from sizes import sized
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import Backend, from_url
from deferrable.cli.places import shown_place
from deferrable.item import Item

R = TypeVar("R")
KEY = b"a key of thirty-two random bytes"


@pytest.fixture
def group() -> str:
    return unique_group("move")


@pytest.fixture
def source(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/old.db"


@pytest.fixture
def target(redis_server: RedisServer) -> str:
    return redis_server.url


def at(url: str, group: str, do: Callable[[Backend], Awaitable[R]]) -> R:
    async def run() -> R:
        async with from_url(url, wait_time=0).create_backend_for_group(group) as backend:
            return await do(backend)

    return asyncio.run(run())


def move(source: str, target: str, group: str, *options: str) -> Any:
    """What the command printed as JSON, and its exit code."""
    done = call_command("move", source, target, "--group", group, "--json", *options, variables={})
    return json.loads(done.stdout) | {"code": done.returncode}


def item(number: int, **fields: object) -> Item:
    return {
        "id": f"id-{number}",
        "method": "shop:mail",
        "attempts": 3,
        "metadata": {"a": number},
    } | fields


async def pop_all(backend: Backend) -> list[Item]:
    return [each for _, each in await backend.queue.pop_batch(100)]


def test_items_keep_everything_and_their_order(source: str, target: str, group: str) -> None:
    now = time.time()
    waiting = [item(number, ttl_seconds=60, item_queued_timestamp=now) for number in range(250)]
    late = item(300, delay=3600, due_time=now + 3600)
    failed = item(400, error={"id": "e", "error_type": "KeyError", "error_text": "x", "ts": now})

    async def push(backend: Backend) -> None:
        await backend.queue.push_each([*waiting, late])
        await backend.error_queue.push(failed)

    async def look(backend: Backend) -> None:
        found = await backend.queue.find("id-300")
        assert found is not None
        assert found.item == late
        assert found.available_time == pytest.approx(now + 3600, abs=30)
        popped = [each for _ in range(3) for each in await pop_all(backend)]
        assert popped == waiting
        assert (await backend.error_queue.pop())[1] == failed

    at(source, group, push)

    told = move(source, target, group)

    assert told["code"] == 0
    assert (told["moved"], told["already_there"], told["doubled"]) == (252, 0, 0)
    assert told["source"]["before"] == {"available": 250, "in_flight": 0, "delayed": 1, "errors": 1}
    assert told["source"]["after"] == {"available": 0, "in_flight": 0, "delayed": 0, "errors": 0}
    assert told["target"]["after"] == {"available": 250, "in_flight": 0, "delayed": 1, "errors": 1}
    at(target, group, look)


def test_what_a_worker_holds_is_left_to_it(source: str, target: str, group: str) -> None:
    async def push_and_pop(backend: Backend) -> None:
        await backend.queue.push_each([item(1), item(2)])
        await backend.queue.pop()

    at(source, group, push_and_pop)
    done = call_command("move", source, target, "--group", group, variables={})

    assert "moved 1," in done.stdout
    assert "1 in flight at SRC: left to their workers" in done.stdout


def test_an_item_that_a_killed_move_had_pushed_is_not_pushed_again(
    source: str, target: str, group: str
) -> None:
    async def push_and_lose(backend: Backend) -> None:
        await backend.queue.push_each([item(1), item(2, delay=3600)])
        envelope, _ = await backend.queue.pop()
        assert envelope is not None
        await backend.queue.release(envelope, is_counted=True)

    async def push(backend: Backend) -> None:
        await backend.queue.push_each([item(1), item(2, delay=3600)])

    at(source, group, push_and_lose)
    at(target, group, push)

    told = move(source, target, group)

    assert (told["moved"], told["already_there"]) == (0, 2)
    after = told["target"]["after"]
    assert (after["available"], after["delayed"]) == (1, 1)
    assert not any(told["source"]["after"].values())


def test_another_call_of_the_same_id_is_moved_too(source: str, target: str, group: str) -> None:
    now = time.time()
    here = item(1, first_push_time=now, delay=3600, due_time=now + 3600)
    there = item(1, first_push_time=now - 60, delay=3600, due_time=now + 3600)
    failed = {"error": {"id": "e", "error_type": "KeyError", "error_text": "x", "ts": now}}

    async def fill(backend: Backend, waiting: Item, first_push_time: float, error_id: str) -> None:
        await backend.queue.push(waiting)
        error = {**failed["error"], "id": error_id}
        await backend.error_queue.push(item(2, first_push_time=first_push_time, error=error))

    at(source, group, lambda backend: fill(backend, here, now, "one"))
    at(target, group, lambda backend: fill(backend, there, now - 60, "another"))

    moved = move(source, target, group)

    assert (moved["moved"], moved["already_there"], moved["code"]) == (2, 0, 0)
    after = moved["target"]["after"]
    assert (after["delayed"], after["errors"]) == (2, 2)


def test_one_server_under_two_names_is_not_moved_into_itself(
    redis_server: RedisServer, group: str
) -> None:
    other_name = redis_server.url.replace("127.0.0.1", "localhost")
    assert other_name != redis_server.url
    late = item(1, delay=3600, due_time=time.time() + 3600)
    at(redis_server.url, group, lambda backend: backend.queue.push(late))

    done = call_command("move", redis_server.url, other_name, "--group", group, variables={})

    assert done.returncode == 2
    assert "SRC and DST are the same queue" in done.stderr
    stats = at(redis_server.url, group, lambda backend: backend.queue.stats())
    assert stats["delayed"] == 1


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("redis://:pa?ss@host/0", "redis://***@host/0"),
        ("redis://host/0?password=a", "redis://host/0"),
        ("sqlite:///jobs.db", "sqlite:///jobs.db"),
    ],
)
def test_a_place_is_shown_without_its_password(place: str, shown: str) -> None:
    assert shown_place(place) == shown


def test_the_name_of_a_file_may_be_quoted(tmp_path: Path, target: str, group: str) -> None:
    source = f"sqlite:///{tmp_path}/old%20jobs.db"
    at(source, group, lambda backend: backend.queue.push(item(1)))

    assert move(source, target, group)["moved"] == 1


def test_what_sqs_does_not_take_stays_and_the_rest_comes_back(
    source: str, group: str, sqs_server: SQSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs_server.set_environment(monkeypatch)
    now = time.time()
    large = item(2, text=os.urandom(900_000).hex())
    late = item(4, delay=3600, due_time=now + 3600)

    async def push(backend: Backend) -> None:
        await backend.queue.push_each([item(1), large, item(3), late])

    async def deliveries(backend: Backend) -> tuple[Item | None, int]:
        envelope, popped = await backend.queue.pop()
        assert envelope is not None
        return popped, envelope.redeliveries

    at(source, group, push)

    told = move(source, "sqs://", group)

    (refusal,) = told["refused"]
    assert told["code"] == 1
    assert told["moved"] == 3
    assert refusal["ids"] == ["id-2"]
    assert "ItemTooLarge" in refusal["reason"]
    assert told["target"]["after"]["available"] == 2
    assert told["target"]["after"]["delayed"] == 1
    assert at(source, group, deliveries) == (large, 0)

    back = move("sqs://", f"{source}.new", group)

    assert back["moved"] == 2
    assert back["source"]["after"] == {"available": 0, "in_flight": 0, "delayed": 1, "errors": 0}
    assert sorted(each["id"] for each in at(f"{source}.new", group, pop_all)) == ["id-1", "id-3"]


def test_many_calls_whose_keys_others_hold_are_one_line(
    source: str, target: str, group: str
) -> None:
    async def defer(backend: Backend) -> list[str]:
        instance = Deferrable(backend)

        @instance.deferrable(name="shop:mail", unique=True)
        def mail(number: int) -> None: ...

        return [(await mail.later_async(number)).id for number in range(7)]

    at(target, group, defer)
    ids = at(source, group, defer)

    done = call_command("move", source, target, "--group", group, variables={})
    (refusal,) = move(source, target, group)["refused"]

    (line,) = [each for each in done.stdout.splitlines() if "left at SRC" in each]
    assert line.startswith("refused 7, left at SRC; the first: DuplicateCall: call ")
    assert line.endswith(f"({', '.join(ids[:5])}, ...)")
    assert (refusal["items"], refusal["ids"]) == (7, ids[:5])


def test_signed_calls_still_run_and_no_key_is_needed(source: str, target: str, group: str) -> None:
    ran = []

    async def push(backend: Backend) -> None:
        instance = Deferrable(backend, signing_keys=(KEY,))
        job = instance.deferrable(name="job")(ran.append)
        await job.later_async(1)
        await job.options(delay_seconds=3600).later_async(2)

    async def run(backend: Backend) -> None:
        instance = Deferrable(backend, signing_keys=(KEY,))
        instance.deferrable(name="job")(ran.append)
        (late,) = [call for call in await instance.peek(10) if call.state.status == "delayed"]
        assert late.call.args == (2,)
        outcome = await instance.run_once()
        assert outcome is not None
        assert outcome.status == "completed"

    at(source, group, push)
    assert move(source, target, group)["moved"] == 2
    at(target, group, run)
    assert ran == [1]


def test_a_moved_call_was_not_cancelled(source: str, target: str, group: str) -> None:
    async def push(backend: Backend) -> None:
        await backend.queue.push(item(1, delay=3600))

    async def place(backend: Backend) -> object:
        return await backend.queue.find("id-1")

    at(source, group, push)
    move(source, target, group)

    assert at(source, group, place) is None


def test_a_paused_source_is_named(source: str, target: str, group: str) -> None:
    async def push(backend: Backend) -> None:
        await backend.queue.push_each([item(1), item(2, delay=3600)])
        await backend.queue.pause()

    at(source, group, push)
    told = move(source, target, group, "--until-empty")

    assert (told["is_paused"], told["code"]) == (True, 1)
    assert told["moved"] == 1


def test_a_stopped_move_does_not_end_as_if_all_had_moved(
    source: str, target: str, group: str
) -> None:
    async def hold(backend: Backend) -> None:
        await backend.queue.push_each([item(1), item(2)])
        await backend.queue.pop()

    async def count(backend: Backend) -> int:
        return int((await backend.queue.stats())["available"])

    at(source, group, hold)
    arguments = ["move", source, target, "--group", group, "--until-empty"]
    with Command(*arguments, variables={}) as running:
        running.wait_until(lambda: at(target, group, count) == 1, "the other item has moved")
        running.send(signal.SIGTERM)
        code = running.end()

    assert code == 1
    assert "stopped by a signal, before everything was tried" in running.text


def test_a_dry_run_moves_nothing(source: str, target: str, group: str) -> None:
    async def push(backend: Backend) -> None:
        await backend.queue.push(item(1))

    at(source, group, push)
    told = move(source, target, group, "--dry-run")

    assert told["moved"] == 0
    assert told["source"]["after"]["available"] == 1


def test_a_url_beside_an_instance_has_its_group(tmp_path: Path) -> None:
    (tmp_path / "shop_of_move.py").write_text(
        "from deferrable import Deferrable, backend\n"
        "factory = backend.from_url('sqlite:///old.db')\n"
        "shop = Deferrable(factory.create_backend_for_group('shop'))\n"
    )
    url = f"sqlite:///{tmp_path}/old.db"
    at(url, "shop", lambda backend: backend.queue.push(item(1)))

    def run(source: str) -> str:
        arguments = ["move", source, "sqlite:///new.db"]
        return call_command(*arguments, variables={}, folder=tmp_path).stdout

    assert "moved 1," in run("shop_of_move:shop")
    assert "SRC had nothing to move in no group" in run("sqlite:///old.db")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memory://", "sqlite:///new.db"], "memory of one process"),
        (["sqlite:///absent.db", "sqlite:///new.db"], "there is no file 'absent.db'"),
        (["sqlite:///here.db", "sqlite:///here.db"], "the same queue"),
        (["sqlite:///here.db", "nowhere://x"], "nowhere"),
        (["redis://:secret@localhost:1/0", "sqlite:///here.db"], "localhost"),
    ],
)
def test_wrong_places_are_named(arguments: list[str], message: str, tmp_path: Path) -> None:
    at(f"sqlite:///{tmp_path}/here.db", "", lambda backend: backend.queue.push(item(1)))

    done = call_command("move", *arguments, variables={}, folder=tmp_path)

    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "secret" not in done.stderr
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.parametrize("pair", ["sqlite-redis", "redis-sqlite"])
def test_killed_moves_lose_and_double_nothing(pair: str) -> None:
    # In a program: it forks, which the threads of other tests would not survive.
    done = subprocess.run(
        [sys.executable, "-m", "attacks.move", "--pair", pair, "--kills", str(sized(2, 100))],
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        timeout=10 * DEADLINE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
