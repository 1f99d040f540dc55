"""The fixture `deferrals` beside the plugins and libraries that tests of applications use."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from processes import DEADLINE_SECONDS, ROOT

SHOP = """
    import deferrable
    import deferrable.aio
    from deferrable.aio.backend import DocketsBackendFactory

    backend = DocketsBackendFactory("redis://127.0.0.1:1").create_backend_for_group("shop")
    shop = deferrable.aio.Deferrable(backend)
    ran = []

    @shop.deferrable(error_classes=[OSError], max_attempts=3)
    async def ship(order):
        ran.append(order)
        if order == 13:
            raise OSError("no")
"""

ASYNC_TEST = """
    import pytest
    from shop import ran, ship, shop

    pytestmark = pytest.mark.MARK

    async def test_a_day_passes(deferrals):
        calls = deferrals(shop)
        ran.clear()

        await ship.later_async(13)
        outcomes = await calls.advance_async(86_400)

        assert [each.status for each in outcomes] == ["retried", "retried", "errored"]
        assert ran == [13, 13, 13]
"""

FREEZER_TESTS = """
    import datetime

    import freezegun
    import pytest
    import time_machine

    import deferrable
    from deferrable.backend import DocketsBackendFactory

    backend = DocketsBackendFactory("redis://127.0.0.1:1").create_backend_for_group("shop")
    shop = deferrable.Deferrable(backend)
    days = []

    @shop.deferrable
    def note_day():
        days.append(datetime.date.today().isoformat())

    @pytest.mark.parametrize("freeze", [
        lambda: freezegun.freeze_time("2030-01-02"),
        lambda: time_machine.travel("2030-01-02 12:00", tick=False),
    ], ids=["freezegun", "time-machine"])
    def test_clock_of_the_code_stands_still_and_ours_moves(deferrals, freeze):
        days.clear()
        calls = deferrals(shop)
        with freeze():
            note_day.options(delay_seconds=3600).later()
            assert calls.advance(3599) == []
            (outcome,) = calls.advance(1)

        assert (outcome.status, days) == ("completed", ["2030-01-02"])
"""

DJANGO_TESTS = """
    import django
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    )
    django.setup()

    import pytest
    from django.db import connection
    from django.test import TestCase

    import deferrable
    from deferrable.backend import DocketsBackendFactory

    backend = DocketsBackendFactory("redis://127.0.0.1:1").create_backend_for_group("shop")
    shop = deferrable.Deferrable(backend)

    @shop.deferrable
    def pay(order):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE orders SET paid = 1 WHERE id = %s", [order])

    class OrderTests(TestCase):
        @pytest.fixture(autouse=True)
        def _calls(self, deferrals):
            self.calls = deferrals(shop)

        @classmethod
        def setUpTestData(cls):
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE orders (id INTEGER, paid INTEGER)")
                cursor.execute("INSERT INTO orders VALUES (7, 0)")

        def test_job_sees_what_the_transaction_of_the_test_holds(self):
            pay.later(7)
            (outcome,) = self.calls.run_all()

            assert outcome.status == "completed", outcome
            with connection.cursor() as cursor:
                cursor.execute("SELECT paid FROM orders")
                assert cursor.fetchall() == [(1,)]

        def test_and_the_next_test_does_not(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT paid FROM orders")
                assert cursor.fetchall() == [(0,)]
"""


@pytest.mark.parametrize(
    ("tests", "plugins", "passed"),
    [
        (ASYNC_TEST.replace("MARK", "asyncio"), ["-p", "pytest_asyncio.plugin"], 1),
        (ASYNC_TEST.replace("MARK", "anyio"), ["-p", "anyio.pytest_plugin", "-k", "asyncio"], 1),
        (FREEZER_TESTS, [], 2),
        (DJANGO_TESTS, [], 2),
    ],
    ids=["pytest-asyncio", "anyio", "freezers", "django"],
)
def test_works_beside(tmp_path: Path, tests: str, plugins: list[str], passed: int) -> None:
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP))
    (tmp_path / "test_shop.py").write_text(textwrap.dedent(tests))
    program = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "deferrable.testing.plugin", *plugins],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )

    assert f"{passed} passed" in program.stdout, program.stdout + program.stderr
