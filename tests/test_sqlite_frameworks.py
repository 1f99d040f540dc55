"""Calls that are deferred in a transaction of Django or of SQLAlchemy.

Django's settings hold for a whole process, so its program runs in a process by itself.
"""

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from processes import DEADLINE_SECONDS, ROOT
from sqlalchemy import orm

import deferrable
import deferrable.aio
from deferrable.aio import backend as awaiting
from deferrable.backend import SQLiteBackendFactory
from deferrable.errors import InvalidOptions

DJANGO_PROGRAM = """
    import sys
    from django.conf import settings
    settings.configure(DATABASES={"default": {
        "ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1],
        "OPTIONS": {"transaction_mode": "IMMEDIATE"}}})
    import django
    django.setup()
    from django.db import connection, transaction
    from deferrable import Deferrable
    from deferrable.backend import SQLiteBackendFactory

    shop = Deferrable(SQLiteBackendFactory(sys.argv[1]).create_backend_for_group(None))

    @shop.deferrable(name="note")
    def note(number):
        pass

    def order(number):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (%s)", [number])
        with shop.using(connection):
            note.later(number)

    def attempt(number, ends_in_error=True):
        try:
            with transaction.atomic():
                order(number)
                if ends_in_error:
                    raise ValueError
        except ValueError:
            pass

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (number INTEGER)")
    attempt(1)
    attempt(2, ends_in_error=False)
    with transaction.atomic():
        attempt(3)
        order(4)
    with transaction.atomic(), shop.using(connection):
        attempt(5)
        note.later_many([(6,), (7,)])
    order(8)
    connection.close()
    order(9)
    jobs = 0
    while shop.run_once():
        jobs += 1
    with connection.cursor() as cursor:
        print(sorted(row[0] for row in cursor.execute("SELECT number FROM orders")), jobs)
"""


def test_calls_in_an_atomic_block_of_django_share_its_end(tmp_path: Path) -> None:
    program = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DJANGO_PROGRAM), str(tmp_path / "shop.db")],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )

    assert program.stderr == ""
    # Committed: 2, 4, 8 and 9 with a row each, and 6 and 7, which have none.
    assert program.stdout == "[2, 4, 8, 9] 6\n"


class Shop:
    """An application with SQLAlchemy whose tables are in the file of its queue."""

    def __init__(self, path: Path) -> None:
        self.path = path
        factory = SQLiteBackendFactory(path, wait_time=0, durability="process")
        self.instance = deferrable.Deferrable(factory.create_backend_for_group(None))
        self.job = self.instance.deferrable(_nothing, name="job")
        self.engine = sqlalchemy.create_engine(f"sqlite:///{path}")
        with self.engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE orders (number INTEGER)"))

    @property
    def counts(self) -> tuple[int, float]:
        """Orders and jobs."""
        with closing(sqlite3.connect(self.path)) as connection:
            ((orders,),) = connection.execute("SELECT count(*) FROM orders").fetchall()
        return orders, self.instance.backend.queue.stats()["available"]


def _nothing(number: int) -> None:
    pass


INSERT = sqlalchemy.text("INSERT INTO orders VALUES (1)")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "shop.db")
    with shop.instance:
        yield shop
    shop.engine.dispose()


@pytest.mark.parametrize("is_kept", [True, False], ids=["commit", "rollback"])
def test_call_through_a_connection_of_sqlalchemy_shares_its_end(shop: Shop, is_kept: bool) -> None:
    with shop.engine.connect() as connection:
        connection.execute(INSERT)
        with shop.instance.using(connection):
            shop.job.later(1)
        if is_kept:
            connection.commit()

    assert shop.counts == ((1, 1) if is_kept else (0, 0))


@pytest.mark.parametrize("is_kept", [True, False], ids=["commit", "rollback"])
def test_call_through_a_session_shares_its_end(shop: Shop, is_kept: bool) -> None:
    with orm.Session(shop.engine) as session:
        with shop.instance.using(session):
            session.execute(INSERT)
            shop.job.later_many([(1,), (2,)])
        if is_kept:
            session.commit()

    assert shop.counts == ((1, 2) if is_kept else (0, 0))


def test_calls_after_a_commit_in_the_block_belong_to_the_next_transaction(shop: Shop) -> None:
    with orm.Session(shop.engine) as session, shop.instance.using(session):
        shop.job.later(1)
        session.execute(INSERT)
        session.commit()
        session.execute(INSERT)
        shop.job.later(2)
        session.rollback()

    assert shop.counts == (1, 1)


def test_driver_connection_of_a_pool_is_looked_through(shop: Shop) -> None:
    pooled = shop.engine.raw_connection()
    with closing(pooled):
        with shop.instance.using(pooled):
            shop.job.later(1)
        pooled.rollback()
        with shop.instance.using(pooled):
            shop.job.later(2)
        pooled.commit()

    assert shop.counts == (0, 1)


@pytest.mark.anyio
async def test_awaited_call_through_a_session_shares_its_end(shop: Shop) -> None:
    factory = awaiting.SQLiteBackendFactory(shop.path, durability="process")
    async with deferrable.aio.Deferrable(factory.create_backend_for_group(None)) as instance:
        job = instance.deferrable(_nothing, name="job")
        for is_kept in (False, True):
            with orm.Session(shop.engine) as session:
                session.execute(INSERT)
                with instance.using(session):
                    await job.later_async(1)
                if is_kept:
                    session.commit()

    assert shop.counts == (1, 1)


def test_connection_of_sqlalchemy_to_another_file_is_refused(shop: Shop, tmp_path: Path) -> None:
    other = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with other.connect() as connection, pytest.raises(InvalidOptions, match=r"other\.db.*shop\.db"):
        shop.instance.using(connection).__enter__()
    other.dispose()
