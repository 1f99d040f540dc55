"""What tests of an application see of its instance: the calls that were deferred, and time."""

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from processes import DEADLINE_SECONDS, ROOT

import deferrable
import deferrable.aio
from deferrable.aio import backend as awaiting
from deferrable.backend import SQLiteBackendFactory
from deferrable.errors import UnserializableCall, WrongApi
from deferrable.testing import MovingClock, deferrals_of

ran: list[Any] = []


def note(number: int, again: int = 0) -> None:
    ran.append(number)
    if again:
        shop_of_note[0].later(number + 1, again - 1)


def fail(number: int) -> None:
    ran.append(number)
    raise OSError("no")


async def note_async(number: int) -> None:
    await asyncio.sleep(0)
    ran.append(number)


shop_of_note: list[Any] = []


class Shop:
    """An instance over a file, which no test here may touch."""

    def __init__(self, path: Path) -> None:
        ran.clear()
        factory = SQLiteBackendFactory(path / "jobs.db")
        self.instance = deferrable.Deferrable(factory.create_backend_for_group(None))
        self.note = self.instance.deferrable(note)
        self.fail = self.instance.deferrable(
            error_classes=[OSError], max_attempts=4, use_exponential_backoff=True
        )(fail)
        self.note_async = self.instance.deferrable(note_async)
        shop_of_note[:] = [self.note]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_instance_has_its_own_backend_again_and_its_file_was_never_made(
    shop: Shop, tmp_path: Path
) -> None:
    backend = shop.instance.backend

    def fail_in_the_block() -> None:
        with deferrals_of(shop.instance):
            shop.note.later(1)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail_in_the_block()

    assert shop.instance.backend is backend
    assert list(tmp_path.iterdir()) == []


def test_calls_are_seen_with_their_decoded_arguments(shop: Shop) -> None:
    with deferrals_of(shop.instance) as calls:
        shop.note.options(delay_seconds=60).later(1)
        shop.note.later(2, again=0)
        shop.fail.later(3)

        assert [each.call.args for each in calls.deferred(shop.note)] == [(2,), (1,)]
        assert len(calls.deferred()) == 3
        assert calls.assert_deferred(shop.note, number=2).state.status == "queued"
        with pytest.raises(AssertionError, match=r"note\(5\) is deferred 0 times.*\n.*note\(2"):
            calls.assert_deferred(shop.note, 5)
        shop.note.later(2)
        with pytest.raises(AssertionError, match="2 times"):
            calls.assert_deferred(shop.note, 2)


def test_what_no_other_process_could_read_fails(shop: Shop) -> None:
    with deferrals_of(shop.instance, inline=True), pytest.raises(UnserializableCall):
        shop.note.later(lambda: None)  # type: ignore[arg-type]


def test_due_calls_run_with_what_they_defer(shop: Shop) -> None:
    with deferrals_of(shop.instance) as calls:
        shop.note.later(1, again=2)
        shop.note.options(delay_seconds=1).later(9)
        shop.note_async.later(5)

        outcomes = calls.run_all()

        assert ran == [1, 5, 2, 3]
        assert {each.status for each in outcomes} == {"completed"}


def test_a_day_of_retries_delays_and_ticks_passes_in_order(shop: Shop) -> None:
    tick = shop.instance.periodic(every_seconds=6 * 3600, args=(100,))(shop.note)
    with deferrals_of(shop.instance, clock=MovingClock(0.0)) as calls:
        shop.fail.later(1)
        tick.options(delay_seconds=7 * 3600).later(2)
        tick.options(delay_seconds=20 * 3600).later(3)

        outcomes = calls.advance(86_400)

        assert ran == [1, 1, 1, 1, 100, 2, 100, 100, 3, 100]
        assert [each.status for each in outcomes][:4] == ["retried"] * 3 + ["errored"]
        assert calls.clock.time() == 86_400


def test_debounced_calls_run_once_at_the_end_of_their_window(shop: Shop) -> None:
    debounced = shop.instance.deferrable(name="debounced", debounce_seconds=60)(note)
    with deferrals_of(shop.instance) as calls:
        debounced.later(1)
        calls.run_all()
        debounced.later(1)
        debounced.later(1)

        assert calls.advance(59) == []
        assert len(calls.advance(1)) == 1
        assert ran == [1, 1]


def test_lost_lease_ends_and_the_call_runs_again(shop: Shop) -> None:
    with deferrals_of(shop.instance) as calls:
        shop.note.later(1)
        shop.instance.backend.queue.pop()  # a consumer that dies now

        assert calls.run_all() == []
        assert len(calls.advance(31)) == 1


def test_inline_calls_run_before_later_returns_and_delayed_ones_do_not(shop: Shop) -> None:
    with deferrals_of(shop.instance, inline=True) as calls:
        shop.note.later(1, again=1)
        assert ran == [1, 2]

        shop.note.options(delay_seconds=5).later(7)
        shop.note_async.later(5)

        assert ran == [1, 2, 5]
        calls.advance(5)
        assert ran == [1, 2, 5, 7]
    assert shop.instance._core.event_consumers == ()


@pytest.mark.timeout(60)  # a tick that is run where it is pushed would wait for itself
def test_inline_ticks_and_what_jobs_defer_run_in_their_turn(shop: Shop) -> None:
    shop.instance.periodic(every_seconds=60, args=(100,))(shop.note)
    with deferrals_of(shop.instance, clock=MovingClock(0.0), inline=True) as calls:
        shop.note.options(delay_seconds=90).later(1, again=1)

        outcomes = calls.advance(120)

        assert ran == [100, 1, 2, 100]
        assert len(outcomes) == len(calls.outcomes) == 4
        shop.note.later(7)
        assert ran[4:] == [7]


@pytest.mark.anyio
async def test_inline_ticks_of_the_asyncio_api_run_in_their_turn(tmp_path: Path) -> None:
    factory = awaiting.SQLiteBackendFactory(tmp_path / "jobs.db")
    instance = deferrable.aio.Deferrable(factory.create_backend_for_group(None))
    job = instance.deferrable(note_async)
    instance.periodic(every_seconds=60, args=(100,))(job)
    ran.clear()
    with deferrals_of(instance, clock=MovingClock(0.0), inline=True) as calls:
        outcomes = await calls.advance_async(120)

        assert ran == [100, 100]
        assert len(outcomes) == len(calls.outcomes) == 2
        await job.later_async(7)
        assert ran[2:] == [7]


def test_jobs_that_defer_each_other_for_ever_are_found(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deferrable.testing.deferrals._MOST_RUNS", 100)
    with deferrals_of(shop.instance) as calls:
        shop.note.later(1, again=200)
        with pytest.raises(AssertionError, match="for ever"):
            calls.run_all()


@pytest.mark.anyio
async def test_instance_of_the_asyncio_api_is_awaited(tmp_path: Path) -> None:
    ran.clear()
    factory = awaiting.SQLiteBackendFactory(tmp_path / "jobs.db")
    instance = deferrable.aio.Deferrable(factory.create_backend_for_group(None))
    job = instance.deferrable(note_async)
    with deferrals_of(instance) as calls:
        await job.later_async(1)
        await job.options(delay_seconds=60).later_async(2)

        calls.assert_deferred(job, 1)
        assert len(await calls.run_all_async()) == 1
        await calls.advance_async(60)

        assert ran == [1, 2]
        with pytest.raises(WrongApi, match="await run_all_async"):
            calls.run_all()
    with deferrals_of(instance, inline=True):
        await job.later_async(3)
    assert ran == [1, 2, 3]


PROJECT = """
    from deferrable import Deferrable
    from deferrable.backend import DocketsBackendFactory

    backend = DocketsBackendFactory("redis://127.0.0.1:1").create_backend_for_group("shop")
    shop = Deferrable(backend)

    @shop.deferrable
    def ship(order):
        print(order)
"""
TESTS = """
    import pytest
    from shop import ship, shop

    @pytest.fixture
    def calls(deferrals):
        return deferrals(shop)

    @pytest.mark.parametrize("order", [1, 2])
    def test_order(calls, order):
        ship.later(order)
        calls.assert_deferred(ship, order)
        assert len(calls.run_all()) == 1

    def test_other(deferrals):
        assert deferrals(shop, inline=True).deferred() == []
"""


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_fixture_works_in_a_project_without_its_broker(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "shop.py").write_text(textwrap.dedent(PROJECT))
    (tmp_path / "test_shop.py").write_text(textwrap.dedent(TESTS))
    program = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "deferrable.testing.plugin", *options],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )

    assert "3 passed" in program.stdout, program.stdout + program.stderr


def test_pause_ends_at_its_moment(shop: Shop) -> None:
    with deferrals_of(shop.instance) as calls:
        shop.instance.pause(for_seconds=50)
        shop.note.options(ttl_seconds=60).later(1)

        outcomes = calls.advance(100)

        assert [each.status for each in outcomes] == ["completed"]


def test_wait_for_a_result_of_a_call_that_nobody_runs_ends(shop: Shop) -> None:
    with deferrals_of(shop.instance):
        receipt = shop.note.options(keep_results_seconds=60).later(1)

        with pytest.raises(TimeoutError):
            receipt.result(timeout_seconds=0.01)
    assert shop.instance._core.waiting_clock is None


def test_failures_show_the_line_of_the_test_and_no_line_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "test_shown.py").write_text(
        textwrap.dedent(
            """
            from deferrable import Deferrable
            from deferrable.backend import InMemoryBackendFactory
            from deferrable.testing import simulate

            shop = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))

            @shop.deferrable
            def job(): ...

            def test_deferred(deferrals):
                deferrals(shop).assert_deferred(job)

            def test_simulated():
                simulate(shop, job.later, check)

            def check():
                assert False, "on purpose"
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shown.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert "2 failed" in done.stdout
    assert "on purpose" in done.stdout
    assert "deferrals.py:" not in done.stdout
    assert done.stdout.count("_simulation.py:") <= 1  # where the check was called, by its error
