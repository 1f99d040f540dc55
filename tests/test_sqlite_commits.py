"""When a waiting process asks SQLite for the commits of others."""

import select
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deferrable.aio.backend.sqlite._commits import Commits
from deferrable.aio.backend.sqlite._writes import Writes

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no inotify here")


class Waits:
    """Stands in for a poll: notes for how long it would wait, and says at once what is there."""

    def __init__(self) -> None:
        self.poll_object = select.poll()
        self.milliseconds: list[float] = []

    def register(self, what: Writes, events: int) -> None:
        self.poll_object.register(what, events)

    def unregister(self, what: Writes) -> None:
        self.poll_object.unregister(what)

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        self.milliseconds.append(milliseconds)
        return self.poll_object.poll(0)


class Watched:
    """A file, what others commit to it, and the one who looks."""

    def __init__(self, path: Path) -> None:
        self.mine, self.other = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
        self.other.execute("PRAGMA journal_mode = WAL")
        self.other.execute("CREATE TABLE numbers (number)")
        self.asked = 0
        self.now = 0.0
        self.waits = Waits()
        self.commits = Commits(self.version, f"{path}-wal", self.now)

    def version(self) -> int:
        self.asked += 1
        ((number,),) = self.mine.execute("PRAGMA data_version").fetchall()
        return int(number)

    def step(self) -> bool:
        """Wait once, as far as the clock moves, and look."""
        self.commits.wait(self.waits, self.now)  # type: ignore[arg-type]
        self.now += self.waits.milliseconds[-1] / 1000
        return self.commits.has_new(self.now)

    def pass_seconds(self, seconds: float) -> None:
        end_time = self.now + seconds
        while self.now < end_time:
            self.step()

    def commit(self) -> None:
        self.other.execute("INSERT INTO numbers VALUES (1)")

    def close(self) -> None:
        self.commits.close()
        self.mine.close()
        self.other.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with closing(Watched(tmp_path / "jobs.db")) as made:
        yield made


@on_linux
def test_sqlite_is_asked_once_a_second_while_nobody_writes(watched: Watched) -> None:
    watched.pass_seconds(5)
    asked = watched.asked

    watched.pass_seconds(10)

    assert watched.asked - asked == 10


@on_linux
def test_write_of_another_program_ends_a_quiet_wait_and_its_commit_is_seen(
    watched: Watched,
) -> None:
    watched.pass_seconds(5)
    watched.commit()
    asked = watched.asked

    assert watched.step()
    assert watched.asked == asked + 1


@on_linux
def test_commit_long_after_its_write_is_seen_soon(watched: Watched) -> None:
    watched.pass_seconds(5)
    watched.other.execute("PRAGMA cache_size = 5")
    watched.other.execute("BEGIN")
    watched.other.executemany("INSERT INTO numbers VALUES (?)", [("x" * 4000,)] * 50)  # spills
    watched.step()
    watched.pass_seconds(0.2)

    watched.other.execute("COMMIT")

    now = watched.now
    while not watched.step():
        pass
    assert watched.now - now <= 0.06


@on_linux
def test_own_writes_do_not_have_sqlite_asked_for_each(watched: Watched) -> None:
    watched.pass_seconds(5)
    asked = watched.asked

    for _ in range(100):
        watched.mine.execute("INSERT INTO numbers VALUES (1)")
        watched.step()

    assert watched.now > 5 + 4
    assert watched.asked - asked == 100


def test_commit_without_a_told_write_ends_the_trust_in_being_told(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writes, "forget", lambda self: False)
    watched.pass_seconds(5)
    watched.commit()
    while not watched.step():
        pass
    asked = watched.asked

    watched.pass_seconds(10)

    assert watched.asked - asked == pytest.approx(200, abs=2)


def test_sqlite_is_asked_every_50_ms_where_the_system_tells_nothing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writes, "watch", lambda path: None)

    watched.pass_seconds(10)

    assert watched.asked == pytest.approx(200, abs=2)


@on_linux
def test_missing_file_and_a_used_up_limit_are_no_error(tmp_path: Path) -> None:
    assert Writes.watch(str(tmp_path / "missing")) is None
