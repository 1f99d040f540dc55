"""Tasks of Django in queues of deferrable."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import django_place
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import close_old_connections, connection, connections, transaction
from django.test import AsyncClient, Client, TestCase, override_settings
from django.utils import timezone
from django.utils.translation import gettext_lazy
from django_app import tasks
from django_app.models import Note
from django_place import DATABASE, tasks_in
from redis_server import unique_group

from deferrable import Deferrable, DeferrableError
from deferrable.contrib.django import DeferrableTask, _site, instance_of, periodic, task
from deferrable.contrib.django._api import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from deferrable.testing import MovingClock, deferrals_of

READY, FAILED = TaskResultStatus.READY, TaskResultStatus.FAILED
SUCCESSFUL = TaskResultStatus.SUCCESSFUL


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    django_place.make_tables()
    tasks.ran.clear()
    yield
    connections.close_all()


@pytest.fixture
def memory() -> Iterator[Deferrable]:
    with tasks_in("memory://", broker={"wait_time": 0}):
        yield instance_of()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deferrable]:
    url = {
        "memory": lambda: "memory://",
        "sqlite": lambda: f"sqlite:///{tmp_path}/jobs.db?durability=process",
        "redis": lambda: request.getfixturevalue("redis_url"),
    }[request.param]()
    with tasks_in(url, broker={"wait_time": 0}, prefix=unique_group("django")):
        instance = instance_of()
        with instance:
            yield instance


def count(instance: Deferrable) -> float:
    return instance.backend.queue.stats()["available"]


def run_all(instance: Deferrable) -> list[Any]:
    outcomes = []
    while (outcome := instance.run_once()) is not None:
        outcomes.append(outcome)
    return outcomes


def notes() -> list[str]:
    return sorted(Note.objects.values_list("text", flat=True))


# Enqueueing, and results.


def test_a_task_runs_and_its_result_is_found(shop: Deferrable) -> None:
    result = tasks.add.enqueue(1, b=2)

    assert result.status == READY
    assert tasks.add.get_result(result.id) == result
    run_all(shop)
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 1)
    found = tasks.add.get_result(result.id)
    assert (found.args, found.kwargs, found.backend) == ([1], {"b": 2}, "default")
    assert found.enqueued_at <= found.started_at <= found.finished_at
    assert len(found.id) <= 64


def test_a_failed_task_shows_its_error(shop: Deferrable) -> None:
    result = tasks.fail.enqueue()

    run_all(shop)
    result.refresh()

    assert (result.status, result.attempts) == (FAILED, 1)
    assert result.errors[0].exception_class_path == "django_app.models.Note.DoesNotExist"
    assert "no such note" in result.errors[0].traceback
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


@pytest.mark.parametrize("name", ["fail", "afail"])
def test_a_traceback_begins_with_the_task(
    memory: Deferrable, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(tasks, name).enqueue()

    run_all(memory)

    (entry,) = memory.errors()
    assert entry.error["traceback"].splitlines()[1].endswith(f", in {name}")
    assert "_running.py" not in caplog.text


async def enqueue_with_await() -> Any:
    return await tasks.add.aenqueue(5)


def test_an_awaited_enqueue_uses_no_thread(memory: Deferrable) -> None:
    before = {each.name for each in threading.enumerate()}

    async def check() -> None:
        result = await enqueue_with_await()
        found = await tasks.add.aget_result(result.id)
        assert found == result
        assert {each.name for each in threading.enumerate()} <= before

    asyncio.run(check())
    run_all(memory)
    assert tasks.ran == [(5, 0)]


def test_a_task_with_run_after_waits_for_it(memory: Deferrable) -> None:
    moment = timezone.now() + timedelta(hours=1)

    result = tasks.add.using(run_after=moment).enqueue(1)

    assert result.status == READY
    (call,) = memory.peek()
    assert call.state.status == "delayed"
    assert call.state.available_time == pytest.approx(moment.timestamp(), abs=1)
    assert run_all(memory) == []


def test_a_task_of_another_queue_goes_there(memory: Deferrable) -> None:
    tasks.add.using(queue_name="mail").enqueue(1)

    assert (count(memory), count(instance_of("mail"))) == (0, 1)
    run_all(instance_of("mail"))
    assert tasks.ran == [(1, 0)]


def test_a_task_gets_its_context(memory: Deferrable) -> None:
    result = tasks.about.enqueue("!")

    run_all(memory)
    result.refresh()

    assert result.return_value == [result.id, 1, "about", ["!"], "!"]


def test_an_unknown_result_does_not_exist(memory: Deferrable) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result("nothing")


def test_what_a_task_returns_must_be_json(memory: Deferrable) -> None:
    result = tasks.unjsonable.enqueue()

    run_all(memory)
    result.refresh()

    assert result.status == FAILED
    assert "cannot be sent" in result.errors[0].traceback


def test_a_tuple_travels_as_a_list_and_arrives_as_declared(memory: Deferrable) -> None:
    result = tasks.pair.enqueue((1, 2))

    run_all(memory)
    result.refresh()

    assert result.args == [[1, 2]]
    assert result.return_value == "tuple"


def test_a_cancelled_task_has_failed(memory: Deferrable) -> None:
    result = tasks.add.enqueue(1)

    memory.call(result.id).cancel()
    result.refresh()

    assert result.status == FAILED
    assert "cancelled" in result.errors[0].traceback


def test_a_worker_imports_the_module_of_a_task_of_an_installed_app(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db?durability=process"
    with tasks_in(url, broker={"wait_time": 0}):
        result_id = import_module("django_app.more").late.enqueue().id
    forget_late()  # as in another process

    with tasks_in(url, broker={"wait_time": 0}):
        outcomes = run_all(instance_of())
        result = task_backends["default"].get_result(result_id)

    assert [each.status for each in outcomes] == ["completed"]
    assert result.return_value == "found"


def test_a_worker_imports_nothing_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db?durability=process"
    with tasks_in(url, broker={"wait_time": 0}):
        import_module("django_app.more").late.enqueue()
    forget_late()

    with tasks_in(url, broker={"wait_time": 0}, import_from=("elsewhere",)):
        outcomes = run_all(instance_of())

    assert [each.status for each in outcomes] == ["errored"]
    assert "import_from allows only elsewhere" in str(outcomes[0].error)


def forget_late() -> None:
    _site._tasks.pop("django_app.more:late")
    del sys.modules["django_app.more"]


# Options.


def test_attempts_that_the_decorator_allows_are_made(memory: Deferrable) -> None:
    result = tasks.flaky.enqueue()

    outcomes = run_all(memory)
    result.refresh()

    assert [each.status for each in outcomes] == ["retried", "retried", "errored"]
    assert (result.status, result.attempts) == (FAILED, 3)


def test_a_debounced_call_has_the_id_of_the_one_that_runs(memory: Deferrable) -> None:
    first, second, third = (tasks.index.enqueue(7) for _ in range(3))

    assert first.id != second.id == third.id
    assert memory.backend.queue.stats()["delayed"] == 1


def test_a_unique_call_has_the_id_of_the_pending_one(memory: Deferrable) -> None:
    assert tasks.report.enqueue(2026).id == tasks.report.enqueue(2026).id
    assert count(memory) == 1


def test_settings_give_options_to_single_tasks() -> None:
    single = {"django_app.tasks.fail": {"max_attempts": 2, "use_exponential_backoff": False}}
    with tasks_in("memory://", broker={"wait_time": 0}, tasks=single):
        tasks.fail.enqueue()

        outcomes = run_all(instance_of())

    assert [each.status for each in outcomes] == ["retried", "errored"]


def test_using_takes_options_for_one_call(memory: Deferrable) -> None:
    tasks.add.using(delay_seconds=60).enqueue(1)

    assert memory.backend.queue.stats()["delayed"] == 1
    assert tasks.add.delay_seconds is None


def test_the_class_of_tasks_has_every_option_of_a_job() -> None:
    assert isinstance(tasks.add, DeferrableTask)
    assert tasks.flaky.max_attempts == 3
    with pytest.raises(TypeError, match="retries"):
        tasks.add.using(retries=3)
    with pytest.raises(TypeError, match="retries"):
        task(retries=3)(tasks.add.func)


# Refusals.


class Lonely:
    """No JSON."""


@pytest.mark.parametrize(
    "value",
    [Note(text="a"), gettext_lazy("hello"), {1, 2}, Lonely(), timezone.now()],
    ids=["model", "lazy text", "set", "object", "moment"],
)
def test_an_argument_that_is_not_json_is_refused(memory: Deferrable, value: object) -> None:
    with pytest.raises(TypeError, match=r"Unsupported type.*django_app\.tasks\.thing.*pk"):
        tasks.thing.enqueue(value)

    assert count(memory) == 0


def test_arguments_that_the_function_does_not_take_are_refused(memory: Deferrable) -> None:
    with pytest.raises(TypeError, match="argument"):
        tasks.add.enqueue(1, c=3)
    with pytest.raises(TypeError, match="argument"):
        tasks.about.enqueue("a", "b")

    assert count(memory) == 0


def test_a_priority_is_refused_with_what_to_do_instead(memory: Deferrable) -> None:
    with pytest.raises(InvalidTask, match="--order strict"):
        tasks.add.using(priority=5)


def test_a_function_that_no_worker_finds_is_refused(memory: Deferrable) -> None:
    renamed = task(_hidden)

    with pytest.raises(InvalidTask, match="something else with the name _hidden"):
        renamed.enqueue()


def _hidden() -> None: ...


def test_a_nested_function_is_refused(memory: Deferrable) -> None:
    def nested() -> None: ...

    with pytest.raises(InvalidTask, match="module level"):
        task(nested)


# Transactions.


class _RolledBack(Exception):
    pass


def in_transaction(*steps: Callable[[], object], fails: bool = False) -> None:
    try:
        with transaction.atomic():
            for step in steps:
                step()
            if fails:
                raise _RolledBack
    except _RolledBack:
        pass


def test_a_call_in_a_transaction_is_pushed_after_its_commit(shop: Deferrable) -> None:
    with transaction.atomic():
        Note.objects.create(text="a")
        result = tasks.add.enqueue(1)
        assert count(shop) == 0

    assert count(shop) == 1
    assert tasks.add.get_result(result.id).id == result.id  # it was known before


def test_a_call_in_a_transaction_that_is_rolled_back_is_not_pushed(shop: Deferrable) -> None:
    in_transaction(lambda: tasks.add.enqueue(1), fails=True)

    assert count(shop) == 0


def test_a_savepoint_takes_its_own_calls_with_it(memory: Deferrable) -> None:
    in_transaction(
        lambda: tasks.add.enqueue(1),
        lambda: in_transaction(lambda: tasks.add.enqueue(2), fails=True),
        lambda: in_transaction(lambda: tasks.add.enqueue(3)),
    )

    run_all(memory)
    assert tasks.ran == [(1, 0), (3, 0)]


def test_arguments_are_those_of_the_call_also_if_they_change_before_the_commit(
    memory: Deferrable,
) -> None:
    numbers = [1]
    with transaction.atomic():
        tasks.thing.enqueue(numbers)
        numbers.append(2)

    run_all(memory)
    assert tasks.ran == [(([1],), {})]


def test_without_autocommit_and_atomic_the_error_says_what_to_write(memory: Deferrable) -> None:
    connection.ensure_connection()
    transaction.set_autocommit(False)
    try:
        with pytest.raises(transaction.TransactionManagementError, match=r"atomic\(\): around it"):
            tasks.add.enqueue(1)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)

    assert count(memory) == 0


def test_transactions_of_another_database_can_be_meant() -> None:
    with tasks_in("memory://", broker={"wait_time": 0}, database="other"):
        shop = instance_of()
        with transaction.atomic():
            tasks.add.enqueue(1)
            assert count(shop) == 1
        with transaction.atomic(using="other"):
            tasks.add.enqueue(2)
            assert count(shop) == 1
        assert count(shop) == 2


def test_a_call_is_pushed_at_once_if_the_settings_say_so() -> None:
    with tasks_in("memory://", broker={"wait_time": 0}, push="at_once"):
        in_transaction(lambda: tasks.add.enqueue(1), fails=True)

        assert count(instance_of()) == 1


@pytest.fixture
def same_file() -> Iterator[Deferrable]:
    settings_ = {"wait_time": 0, "durability": "process"}
    with tasks_in(None, push="in_transaction", prefix=unique_group("django"), broker=settings_):
        instance = instance_of()
        with instance:
            yield instance


def test_a_call_can_be_a_part_of_the_transaction_in_sqlite(same_file: Deferrable) -> None:
    assert str(DATABASE) in repr(same_file.backend.queue)
    heard: list[str] = []

    def hear(task_result: Any, **_: Any) -> None:
        heard.append(task_result.args)

    task_enqueued.connect(hear)
    try:
        in_transaction(lambda: tasks.note.enqueue("lost"), fails=True)
        in_transaction(
            lambda: tasks.note.enqueue("kept"),
            lambda: in_transaction(lambda: tasks.note.enqueue("lost"), fails=True),
        )
        tasks.note.enqueue("outside")
    finally:
        task_enqueued.disconnect(hear)

    assert heard == [["kept"], ["outside"]]
    run_all(same_file)
    assert notes() == ["kept", "outside"]


def test_a_request_that_is_one_transaction_enqueues_if_it_succeeds(memory: Deferrable) -> None:
    client = Client(raise_request_exception=False)
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        assert client.get("/enqueue?fail").status_code == 500
        assert (notes(), count(memory)) == ([], 0)
        result_id = client.get("/enqueue").content.decode()
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False

    assert notes() == ["from a request"]
    assert tasks.add.get_result(result_id).args == [1]


def test_an_async_view_enqueues(memory: Deferrable) -> None:
    response: Any = asyncio.run(AsyncClient().get("/aenqueue"))

    assert response.status_code == 200
    assert count(memory) == 1


# Around a task.


def test_a_plain_task_gives_its_connection_back(memory: Deferrable) -> None:
    tasks.note.enqueue("a")

    run_all(memory)

    assert connection.connection is None  # CONN_MAX_AGE is 0


def test_a_connection_that_has_died_is_replaced_before_the_next_task(memory: Deferrable) -> None:
    connection.settings_dict["CONN_MAX_AGE"] = None
    connection.settings_dict["CONN_HEALTH_CHECKS"] = True
    connection.close()
    try:
        tasks.note.enqueue("a")
        run_all(memory)
        assert connection.connection is not None
        connection.connection.close()  # as a server does that was restarted
        connection.errors_occurred = True
        connection.is_usable = lambda: False
        tasks.note.enqueue("b")
        outcomes = run_all(memory)
    finally:
        connection.settings_dict["CONN_MAX_AGE"] = 0
        connection.settings_dict["CONN_HEALTH_CHECKS"] = False
        del connection.is_usable

    assert [each.status for each in outcomes] == ["completed"]
    close_old_connections()
    assert notes() == ["a", "b"]


def test_tasks_in_the_threads_of_a_worker_leave_no_connection_open(memory: Deferrable) -> None:
    opened: list[Any] = []

    def note_connection(connection: Any, **_: Any) -> None:
        opened.append(connection)

    from django.db.backends.signals import connection_created

    connection_created.connect(note_connection)
    try:
        for number in range(8):
            tasks.note.enqueue(str(number))
            tasks.anote.enqueue(str(number))
        done = memory.worker(8).run(until_empty=True)
    finally:
        connection_created.disconnect(note_connection)

    assert done.counts == {"completed": 16}
    assert len(opened) >= 8
    assert [each.connection for each in opened] == [None] * len(opened)


def test_a_language_that_a_task_activates_ends_with_it(memory: Deferrable) -> None:
    results = [tasks.speak.enqueue(each) for each in ("de", "fr")]

    memory.worker(1).run(until_empty=True)

    for result in results:
        result.refresh()
    assert [each.return_value for each in results] == ["en-us de", "en-us fr"]


class Heard:
    """Receivers that use the ORM."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any, int]] = []

    def __enter__(self) -> Self:
        for each in (task_enqueued, task_started, task_finished):
            each.connect(self.hear)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (task_enqueued, task_started, task_finished):
            each.disconnect(self.hear)

    def hear(self, signal: Any, task_result: Any, **_: Any) -> None:
        name = {task_enqueued: "enqueued", task_started: "started", task_finished: "finished"}
        self.all.append((name[signal], task_result.status, Note.objects.count()))


def test_signals_are_sent_once_and_receivers_may_use_the_database(memory: Deferrable) -> None:
    with Heard() as heard:
        tasks.flaky.enqueue()
        run_all(memory)

    names = [name for name, *_ in heard.all]
    assert names == ["enqueued", "started", "started", "started", "finished"]
    assert heard.all[-1][1] == FAILED


def test_signals_of_a_worker_may_use_the_database_too(memory: Deferrable) -> None:
    with Heard() as heard:
        tasks.anote.enqueue("a")
        memory.worker(2).run(until_empty=True)
        from deferrable.contrib.django import _signals

        _signals._executor().submit(lambda: None).result(timeout=60)

    assert [name for name, *_ in heard.all] == ["enqueued", "started", "finished"]
    assert heard.all[-1][1:] == (SUCCESSFUL, 1)


def test_a_receiver_that_fails_changes_nothing(memory: Deferrable) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("a receiver")

    for each in (task_enqueued, task_started, task_finished):
        each.connect(fail)
    try:
        tasks.add.enqueue(1)
        outcomes = run_all(memory)
    finally:
        for each in (task_enqueued, task_started, task_finished):
            each.disconnect(fail)

    assert [each.status for each in outcomes] == ["completed"]


# System checks.


def problems() -> list[str]:
    return [each.id for each in task_backends["default"].check()]


def test_settings_that_are_right_have_no_problem(tmp_path: Path) -> None:
    with tasks_in(f"sqlite:///{tmp_path}/jobs.db"):
        assert problems() == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"url": "sqlite:///jobs.db", "wait_tim": 3}, "deferrable.E001"),
        ({"url": "nonsense://"}, "deferrable.E001"),
        ({"url": "sqlite:///jobs.db", "push": "sometimes"}, "deferrable.E001"),
        ({"url": "sqlite:///jobs.db", "database": "nowhere"}, "deferrable.E001"),
        ({"url": "memory://"}, "deferrable.E002"),
        ({"url": "memory://", "task_options": {"retries": 3}}, "deferrable.E003"),
        ({"url": "redis://127.0.0.1:1/0"}, "deferrable.W001"),
    ],
)
def test_settings_that_are_wrong_are_reported(options: dict[str, Any], expected: str) -> None:
    backend = {"BACKEND": django_place.BACKEND, "OPTIONS": options}
    with override_settings(TASKS={"default": backend}):
        assert expected in problems()


def test_a_deferred_lock_is_warned_of(tmp_path: Path) -> None:
    databases = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "a.db")}
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        tasks_in(f"sqlite:///{tmp_path}/a.db", push="in_transaction"),
    ):
        patch.setattr(settings, "DATABASES", databases)
        assert problems() == ["deferrable.W002"]


def test_an_unknown_option_names_the_known_ones() -> None:
    with tasks_in("memory://", wait_tim=3), pytest.raises(ImproperlyConfigured, match="broker"):
        instance_of()


# The command.


def test_the_command_counts_the_queues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tasks_in(f"sqlite:///{tmp_path}/jobs.db"):
        tasks.add.enqueue(1)
        call_command("deferrable", "stats", "--json")

    printed = capsys.readouterr().out
    assert '"group": "django-default"' in printed
    assert '"available": 1' in printed


def test_the_command_refuses_an_unknown_queue(memory: Deferrable) -> None:
    import click

    with pytest.raises(click.ClickException, match=r"no queue 'post'; there are: default, mail"):
        call_command("deferrable", "stats", "post")


def test_a_task_with_a_schedule_is_enqueued_at_its_ticks() -> None:
    periodic(every_seconds=60)(tasks.add.using(queue_name="mail"))
    try:
        with tasks_in("memory://"):
            (schedule,) = instance_of("mail").schedules()
            assert schedule.job_name == "django_app.tasks:add"
            assert instance_of().schedules() == []
    finally:
        _site._schedules.clear()


# Tests of applications.


def test_a_test_case_sees_what_its_tasks_do() -> None:
    seen: list[Any] = []

    class SiteTest(TestCase):
        def test_site(self) -> None:
            with deferrals_of(instance_of(), clock=MovingClock()) as calls:
                Note.objects.create(text="by the test")
                with self.captureOnCommitCallbacks(execute=True):
                    tasks.note.enqueue("by the task")
                calls.assert_deferred(calls_job("note"), "by the task")
                calls.run_all()
                seen.extend(notes())

    import unittest

    result = unittest.TestResult()
    unittest.TestSuite([SiteTest("test_site")]).run(result)

    assert (result.errors, result.failures) == ([], [])
    assert seen == ["by the task", "by the test"]
    assert notes() == []  # the test case has rolled back


@pytest.mark.parametrize(
    "error",
    [
        tasks.Trouble("out of paper\nother.Trouble: as the printer says"),
        tasks.Troubles("several", [tasks.Trouble("one"), KeyError("two")]),
        ExceptionGroup("several", [tasks.Troubles("some", [tasks.Trouble("one")])]),
        StopAsyncIteration("builtins have no module in a traceback"),
    ],
    ids=["text like another error", "group", "group of groups", "built in"],
)
def test_the_class_of_a_kept_error_is_not_what_its_text_says(
    memory: Deferrable, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    error.add_note(f"nowhere.{type(error).__name__}: a note")
    monkeypatch.setattr(tasks, "trouble", error)
    result = tasks.raise_trouble.enqueue()
    memory.run_once()

    (kept,) = tasks.raise_trouble.get_result(result.id).errors

    assert kept.exception_class is type(error)


def test_an_async_task_uses_one_thread_for_the_orm_and_not_one_that_waits_for_it() -> None:
    async def test_site() -> list[Any]:
        with deferrals_of(instance_of()) as calls:
            await tasks.athreads.aenqueue()
            outcomes: list[Any] = await asyncio.to_thread(calls.run_all)
        return [each.result for each in outcomes]

    (names,) = async_to_sync(test_site)()

    assert len(set(names)) == 1
    assert names[0] != threading.current_thread().name


def calls_job(name: str) -> Any:
    backend: Any = task_backends["default"]
    return backend.site.job(getattr(tasks, name))


def test_settings_without_a_url_read_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEFERRABLE_URL", f"sqlite:///{tmp_path}/there.db")
    with tasks_in(None):
        assert "there.db" in repr(instance_of().backend.queue)
    monkeypatch.delenv("DEFERRABLE_URL")
    with tasks_in(None), pytest.raises(DeferrableError, match="DEFERRABLE_URL"):
        instance_of()


def test_a_task_stands_for_its_job_where_one_is_asked_for(memory: Deferrable) -> None:
    with deferrals_of(memory) as calls:
        tasks.add.enqueue(1)
        tasks.add.enqueue(a=2)
        tasks.about.enqueue("x")

        assert calls.assert_deferred(tasks.add, 2).call.kwargs == {"a": 2}
        assert calls.assert_deferred(tasks.about, suffix="x").call.args == ("x",)
        assert len(calls.deferred(tasks.add)) == 2
        assert len(memory.peek(job=tasks.add)) == 2
        assert memory.cancel_calls(tasks.add) == {"cancelled": 2, "running": 0}
        assert calls.deferred(tasks.add) == []
