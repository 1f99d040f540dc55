"""Calls that are deferred in the user's own transaction on a SQLite file."""

import asyncio
import os
import signal
import sqlite3
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import DEADLINE_SECONDS, ROOT
from warm_python import run_python

import deferrable
import deferrable.aio
from deferrable.backend import InMemoryBackendFactory, SQLiteBackendFactory
from deferrable.errors import BackendUnavailable, InvalidOptions, Unsupported
from deferrable.testing import MovingClock

ran: list[int] = []


def note(number: int) -> None:
    ran.append(number)


class Shop:
    """An application with its own table in the file of its queue."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.clock = MovingClock()
        factory = SQLiteBackendFactory(
            path, wait_time=0, durability="process", clock=self.clock, **options
        )
        self.instance = deferrable.Deferrable(factory.create_backend_for_group(None))
        self.job = self.instance.deferrable(note, name="note")
        self.debounced = self.instance.deferrable(note, name="debounced", debounce_seconds=10)

    def connect(self, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30, **options)

    @property
    def orders(self) -> int:
        with closing(self.connect()) as connection:
            return int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])

    @property
    def jobs(self) -> float:
        stats = self.instance.backend.queue.stats()
        return stats["available"] + stats["delayed"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "shop.db")
    with closing(shop.connect()) as connection:
        connection.execute("CREATE TABLE orders (number INTEGER)")
    with shop.instance:
        yield shop


@pytest.fixture
def connection(shop: Shop) -> Iterator[sqlite3.Connection]:
    with closing(shop.connect()) as connection:
        yield connection


@pytest.mark.parametrize("is_prepared", [True, False], ids=["with our tables", "without"])
@pytest.mark.parametrize("is_kept", [True, False], ids=["commit", "rollback"])
def test_call_is_pushed_if_and_only_if_the_transaction_commits(
    shop: Shop, connection: sqlite3.Connection, is_prepared: bool, is_kept: bool
) -> None:
    if is_prepared:
        assert shop.jobs == 0
    connection.execute("INSERT INTO orders VALUES (1)")

    with shop.instance.using(connection):
        receipt = shop.job.later(1)
    before = shop.orders
    connection.commit() if is_kept else connection.rollback()

    assert receipt.status == "pushed"
    assert (before, shop.orders, shop.jobs) == (0, int(is_kept), int(is_kept))


def test_nobody_can_pop_a_call_before_the_commit(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    with shop.instance.using(connection):
        shop.job.later(1)

    assert shop.instance.run_once() is None
    connection.commit()
    outcome = shop.instance.run_once()
    assert outcome is not None
    assert outcome.status == "completed"


def test_many_calls_and_a_batch_of_items_are_part_of_the_transaction(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    with shop.instance.using(connection):
        shop.job.later_many([(number,) for number in range(50)])
    connection.rollback()
    assert shop.jobs == 0

    with shop.instance.using(connection):
        shop.job.later_many([(number,) for number in range(50)])
    connection.commit()
    assert shop.jobs == 50


@pytest.mark.parametrize("is_kept", [True, False], ids=["commit", "rollback"])
def test_debounce_window_is_part_of_the_transaction(
    shop: Shop, connection: sqlite3.Connection, is_kept: bool
) -> None:
    with shop.instance.using(connection):
        statuses = [shop.debounced.later(1).status for _ in range(3)]
    connection.commit() if is_kept else connection.rollback()

    assert statuses == ["pushed", "delayed", "skipped"]
    # After a rollback nothing was pushed, so the next call is the first one again.
    assert shop.debounced.later(1).status == ("skipped" if is_kept else "pushed")


def test_awaited_call_is_part_of_the_transaction_and_others_are_not(shop: Shop) -> None:
    async def main() -> tuple[float, float]:
        backend = deferrable.aio.backend.SQLiteBackendFactory(
            shop.path, 0, durability="process", clock=shop.clock
        ).create_backend_for_group(None)
        async with deferrable.aio.Deferrable(backend) as instance:
            job = instance.deferrable(note, name="note")
            with closing(shop.connect()) as connection:
                inside = asyncio.Event()

                async def defer_beside() -> None:
                    await inside.wait()
                    await asyncio.gather(*(job.later_async(number) for number in range(5)))

                beside = asyncio.create_task(defer_beside())
                with instance.using(connection):
                    inside.set()
                    await asyncio.gather(*(job.later_async(number) for number in range(10)))
                    await job.later_many_async([(number,) for number in range(10)])
                    connection.rollback()
                await beside
                kept = (await backend.queue.stats())["available"]
                with instance.using(connection):
                    await job.later_async(1)
                    connection.commit()
                return kept, (await backend.queue.stats())["available"]

    assert asyncio.run(main()) == (5, 6)


def test_connection_that_commits_by_itself_pushes_at_once(shop: Shop) -> None:
    with closing(shop.connect(isolation_level=None)) as connection:
        with shop.instance.using(connection):
            shop.job.later(1)
            assert shop.jobs == 1
        connection.execute("BEGIN")
        with shop.instance.using(connection):
            shop.job.later(2)
        connection.execute("ROLLBACK")

    assert shop.jobs == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has no autocommit attribute")
@pytest.mark.parametrize(("autocommit", "jobs"), [(True, 1), (False, 0)])
def test_autocommit_attribute_is_respected(shop: Shop, autocommit: bool, jobs: int) -> None:
    with closing(shop.connect(autocommit=autocommit)) as connection:
        with shop.instance.using(connection):
            shop.job.later(1)
        connection.rollback()

    assert shop.jobs == jobs


def test_rows_and_texts_of_the_users_own_kind_do_not_matter(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    connection.row_factory = lambda cursor, row: {"row": row}
    connection.text_factory = bytes

    with shop.instance.using(connection):
        statuses = [shop.debounced.later(1).status for _ in range(3)]
    connection.commit()

    assert statuses == ["pushed", "delayed", "skipped"]
    assert connection.row_factory is not None
    assert shop.jobs == 2


def test_connection_to_another_file_or_none_at_all_is_refused(shop: Shop, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE one (number)")
        with pytest.raises(InvalidOptions, match=r"other\.db.*shop\.db"):
            shop.instance.using(other).__enter__()
    with closing(sqlite3.connect(":memory:")) as memory, pytest.raises(InvalidOptions, match="mem"):
        shop.instance.using(memory).__enter__()
    with pytest.raises(InvalidOptions, match="SQLAlchemy"):
        shop.instance.using("shop.db").__enter__()


def test_closed_connection_is_refused(shop: Shop) -> None:
    connection = shop.connect()
    connection.close()

    with pytest.raises((InvalidOptions, sqlite3.ProgrammingError)):
        shop.instance.using(connection).__enter__()


def test_other_backends_say_that_they_cannot() -> None:
    instance = deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group(None))

    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(Unsupported):
        instance.using(connection)


def test_call_in_another_thread_is_refused_and_not_pushed(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    async def main() -> None:
        with shop.instance.using(connection):
            await asyncio.to_thread(shop.job.later, 1)

    with pytest.raises(InvalidOptions, match="thread"):
        asyncio.run(main())

    assert shop.jobs == 0


def test_call_of_a_task_that_outlives_the_block_is_refused_and_not_pushed(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    async def main() -> None:
        with shop.instance.using(connection):
            late = asyncio.create_task(shop.job.later_async(1))
        await late

    with pytest.raises(InvalidOptions, match="has ended"):
        asyncio.run(main())

    assert shop.jobs == 0


def test_transaction_that_began_with_a_read_and_is_too_old_says_so(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    assert shop.jobs == 0
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM orders").fetchall()
    shop.job.later(1)

    with shop.instance.using(connection), pytest.raises(BackendUnavailable, match="IMMEDIATE"):
        shop.job.later(2)

    connection.rollback()
    assert shop.jobs == 1


@pytest.mark.parametrize("is_prepared", [True, False], ids=["with our tables", "without"])
def test_a_transaction_that_is_retried_in_the_block_keeps_its_call(
    shop: Shop, connection: sqlite3.Connection, is_prepared: bool
) -> None:
    if is_prepared:
        shop.instance.backend.queue.stats()
    connection.execute("INSERT INTO orders VALUES (0)")
    with shop.instance.using(connection):
        shop.job.later(1)
        connection.rollback()
        connection.execute("INSERT INTO orders VALUES (2)")
        shop.job.later(2)
        connection.commit()

    assert (shop.orders, shop.jobs) == (1, 1)
    outcome = shop.instance.run_once()
    assert outcome is not None
    assert outcome.status == "completed"


def test_a_savepoint_that_is_rolled_back_takes_only_its_call(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    with shop.instance.using(connection):
        connection.execute("SAVEPOINT one")
        shop.job.later(1)
        connection.execute("ROLLBACK TO one")
        shop.job.later(2)
        connection.commit()

    assert shop.jobs == 1
    outcome = shop.instance.run_once()
    assert outcome is not None
    assert outcome.status == "completed"


class Session:
    """Like SQLAlchemy's: a nested transaction begins when the connection is asked for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.is_to_nest = False

    def connection(self) -> sqlite3.Connection:
        if self.is_to_nest:
            self.is_to_nest = False
            self._connection.execute("SAVEPOINT nested")
        return self._connection


def test_a_nested_transaction_of_a_session_is_begun_before_the_push(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    session = Session(connection)
    connection.execute("INSERT INTO orders VALUES (1)")
    with shop.instance.using(session):
        session.is_to_nest = True
        shop.job.later(1)
        connection.execute("ROLLBACK TO nested")
    connection.commit()

    assert (shop.orders, shop.jobs) == (1, 0)


def test_a_connection_that_the_session_changes_is_used_from_then_on(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    session = Session(connection)
    with closing(shop.connect()) as other, shop.instance.using(session):
        shop.job.later(1)
        connection.commit()
        session._connection = other
        shop.job.later(2)
        other.commit()

    assert shop.jobs == 2


def test_what_would_wait_for_the_open_transaction_is_refused_at_once(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    with shop.instance.using(connection):
        shop.job.later(1)
        with pytest.raises(InvalidOptions, match="Commit it before you do anything else"):
            shop.instance.run_once()
        with pytest.raises(InvalidOptions, match="Commit it before you do anything else"):
            shop.instance.backend.queue.flush()
        connection.commit()
        assert shop.instance.run_once() is not None


def test_a_connection_of_an_async_driver_is_refused_with_what_to_do(shop: Shop) -> None:
    class AsyncConnection:
        @property
        def connection(self) -> object:
            raise RuntimeError("not implemented")

    with (
        pytest.raises(InvalidOptions, match="use a plain connection"),
        shop.instance.using(AsyncConnection()),
    ):
        pass


def test_failed_push_leaves_the_users_transaction_as_it_was(
    shop: Shop, connection: sqlite3.Connection
) -> None:
    connection.execute("INSERT INTO orders VALUES (1)")

    with shop.instance.using(connection), pytest.raises(deferrable.UnserializableCall):
        shop.job.later(threading.Lock())
    connection.commit()

    assert (shop.orders, shop.jobs) == (1, 0)


def test_signed_debounced_call_does_not_wait_for_its_own_transaction(
    tmp_path: Path, shop: Shop, connection: sqlite3.Connection
) -> None:
    signed = deferrable.Deferrable(
        SQLiteBackendFactory(shop.path, 0, durability="process").create_backend_for_group("b"),
        signing_keys=("k" * 32,),
    )
    job = signed.deferrable(note, name="note", debounce_seconds=10)
    connection.execute("INSERT INTO orders VALUES (1)")

    with signed, signed.using(connection):
        receipt = job.later(1)

    assert receipt.status == "pushed"


KILLED = """
    import os, signal, sqlite3, sys
    import deferrable
    from deferrable.backend import SQLiteBackendFactory

    path, fatal = sys.argv[1], int(sys.argv[2])
    factory = SQLiteBackendFactory(path, durability="process")
    instance = deferrable.Deferrable(factory.create_backend_for_group(None))

    def note(number):
        pass

    job = instance.deferrable(note, name="note")
    debounced = instance.deferrable(note, name="debounced", debounce_seconds=10)
    connection = sqlite3.connect(path)
    count = 0

    def strike(statement):
        global count
        count += 1
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    connection.set_trace_callback(strike)
    connection.execute("INSERT INTO orders VALUES (1)")
    with instance.using(connection):
        job.later(1)
        debounced.later(2)
        connection.execute("INSERT INTO orders VALUES (2)")
        debounced.later(2)
    connection.commit()
    strike("after it")
    print(count)
"""


def test_kill_at_any_statement_leaves_all_of_the_transaction_or_nothing(tmp_path: Path) -> None:
    fatal, seen = 1, set()
    while True:
        path = tmp_path / f"{fatal}.db"
        shop = Shop(path)
        with closing(shop.connect()) as connection:
            connection.execute("CREATE TABLE orders (number INTEGER)")
        ended = run_python(
            ["-c", textwrap.dedent(KILLED), str(path), str(fatal)],
            cwd=ROOT,
            env=os.environ,
            timeout=DEADLINE_SECONDS,
        )
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        with shop.instance:
            state = shop.orders, shop.jobs
        seen.add(state)
        assert state in ((0, 0), (2, 3)), f"killed at statement {fatal}"
        if ended.returncode == 0:
            break
        fatal += 1

    assert fatal > 20
    assert seen == {(0, 0), (2, 3)}
