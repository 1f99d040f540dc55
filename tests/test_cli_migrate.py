"""``deferrable migrate``: a fleet of both generations on one Redis."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import call_command
from dockets_place import Place, envelope
from redis_server import RedisServer

from deferrable.cli import asking

APP = """
import os
from deferrable import Deferrable, backend

factory = backend.from_url(os.environ["REDIS_URL"])
stats = Deferrable(factory.create_backend_for_group(os.environ["GROUP"]), serializer="classic")
local = Deferrable(backend.from_url("memory://").create_backend_for_group("x"))


@stats.deferrable
def count(number):
    pass
"""


class Fleet(Place):
    """One Redis, the keys of a group, and the command for it."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        super().__init__(server)
        self.folder = folder
        (folder / "fleet.py").write_text(APP)
        self.variables = {"REDIS_URL": server.url, "GROUP": self.group}

    def command(self, *arguments: str, answer: str = "") -> Any:
        return call_command(
            "migrate", *arguments, variables=self.variables, folder=self.folder, answer=answer
        )

    def told(self, *arguments: str) -> Any:
        done = self.command(*arguments, "--json")
        return json.loads(done.stdout) | {"code": done.returncode}

    def hold(self, name: str, *raws: str) -> None:
        """Have a consumer of Python 2 hold entries."""
        self.redis.lpush(self.keys.working(name), *raws)


@pytest.fixture
def fleet(redis_server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis_server, tmp_path)
    yield fleet
    fleet.redis.delete(*fleet.redis.keys(f"{fleet.keys.queue}*") or ["nothing"])
    fleet.redis.close()


def item(push_time: float, **fields: Any) -> str:
    return envelope(json.dumps({"method": "x", "first_push_time": push_time, **fields}))


def test_writers_are_counted_and_classic_may_go_when_nobody_needs_it(fleet: Fleet) -> None:
    old = time.time() - 86_400
    fleet.put(item(old), item(old, id="a"), item(old, id="b", serializer="json"))

    told = fleet.told("status", "fleet:stats")

    assert told["items"]["queued"] == {"Python 2": 1, "classic": 1, "new": 1}
    assert told["may_drop_classic"]
    assert told["code"] == 0
    assert "may go" in fleet.command("status", "fleet:stats").stdout


def test_each_reason_to_keep_classic_is_named(fleet: Fleet) -> None:
    fleet.put(item(time.time()))
    fleet.hold("dead", item(time.time() - 7200))
    fleet.hold("alive", item(time.time()))
    fleet.redis.set(fleet.keys.active("alive"), "1", px=60_000)

    done = fleet.command("status", "fleet:stats", "--sample", "1")
    told = fleet.told("status", "fleet:stats")

    assert done.returncode == 1
    for text in ("1 Python 2 consumers are alive", "hold items and have no heartbeat"):
        assert text in " ".join(told["reasons"])
    assert "a Python 2 producer pushed" in done.stdout
    assert "were looked at" in done.stdout
    (alive, dead) = told["old_consumers"]
    assert 0 < alive["heartbeat_seconds"] <= 60
    assert dead["heartbeat_seconds"] == 0


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "has_terminal", lambda: True)


@pytest.mark.usefixtures("terminal")
def test_the_items_of_a_dead_consumer_are_taken_back_after_a_yes(fleet: Fleet) -> None:
    fleet.hold("dead", item(1.0), item(2.0))

    dry = fleet.command("adopt", "fleet:stats", "--dry-run", "--watch-seconds", "0")
    no = fleet.command("adopt", "fleet:stats", "--watch-seconds", "0", answer="n\n")
    still = fleet.redis.llen(fleet.keys.working("dead"))
    yes = fleet.command("adopt", "fleet:stats", "--watch-seconds", "0", answer="y\n")

    assert "2 items would be given back" in dry.stdout
    assert "give back 2 items of 1 Python 2 consumers?" in no.stderr
    assert (no.returncode, still) == (1, 2)
    assert "gave back 2 items" in yes.stdout
    assert fleet.redis.llen(fleet.keys.queue) == 2
    assert fleet.redis.exists(fleet.keys.working("dead")) == 0
    assert "no Python 2 consumer" in fleet.command("adopt", "fleet:stats", "--yes").stdout


def test_the_number_of_adopted_items_is_said_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.hold("dead", *(item(float(number)) for number in range(1, 251)))

    done = fleet.command("adopt", "fleet:stats", "--yes", "--watch-seconds", "0")

    assert "gave back 250 items" in done.stdout
    assert (caplog.text, done.stderr) == ("", "")


def test_a_consumer_with_a_heartbeat_keeps_its_items(fleet: Fleet) -> None:
    fleet.hold("alive", item(1.0))
    fleet.hold("dead", item(2.0))
    fleet.redis.set(fleet.keys.active("alive"), "1", px=60_000)

    told = fleet.told("adopt", "fleet:stats", "--yes", "--watch-seconds", "0")

    assert told["code"] == 1
    assert told["taken_back"] == {"dead": 1}
    assert "heartbeat" in told["kept"]["alive"]
    assert fleet.redis.llen(fleet.keys.working("alive")) == 1


def test_a_consumer_that_works_while_it_is_watched_keeps_its_items(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.hold("working", item(1.0))

    async def work(seconds: float) -> None:
        fleet.redis.delete(fleet.keys.working("working"))
        fleet.hold("working", item(3.0))

    monkeypatch.setattr("deferrable.cli.migrate.asyncio.sleep", work)
    told = fleet.told("adopt", "fleet:stats", "--yes")

    assert told["taken_back"] == {}
    assert "changed" in told["kept"]["working"]


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("sign", "why"), [("heartbeat", "its heartbeat lasts"), ("items", "its items changed")]
)
def test_a_consumer_that_comes_to_life_during_the_question_keeps_its_items(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, sign: str, why: str
) -> None:
    fleet.hold("sleeper", item(1.0))
    fleet.hold("dead", item(2.0))

    def answer(*_: object, **__: object) -> bool:
        if sign == "heartbeat":
            fleet.redis.set(fleet.keys.active("sleeper"), "1", px=60_000)
        else:
            fleet.redis.delete(fleet.keys.working("sleeper"))
            fleet.hold("sleeper", item(3.0))
        return True

    monkeypatch.setattr("deferrable.cli.migrate.click.confirm", answer)
    told = fleet.told("adopt", "fleet:stats", "--watch-seconds", "0")

    assert told["code"] == 1
    assert told["taken_back"] == {"dead": 1}
    assert why in told["kept"]["sleeper"]


def test_adopting_without_a_terminal_needs_a_yes(fleet: Fleet) -> None:
    fleet.hold("dead", item(1.0))

    done = fleet.command("adopt", "fleet:stats", answer="y\n")

    assert done.returncode == 2
    assert "no terminal to ask on; add --yes, or --dry-run" in done.stderr
    assert fleet.redis.llen(fleet.keys.working("dead")) == 1


def test_other_brokers_and_unknown_consumers_are_refused(fleet: Fleet) -> None:
    other = fleet.command("status", "fleet:local")
    unknown = fleet.command("adopt", "fleet:stats", "nobody", "--yes")

    assert other.returncode == unknown.returncode == 2
    assert "on Redis only" in other.stderr
    assert "no Python 2 consumer nobody holds items" in unknown.stderr
