"""Tasks of Django in queues of SQS, spoken over HTTP."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import django_place
import pytest
from django.db import connections, transaction
from django.utils import timezone
from django_app import tasks
from django_app.models import Note
from django_place import tasks_in
from sqs_server import SQSServer

from deferrable import InMemoryResults
from deferrable.contrib.django import instance_of
from deferrable.contrib.django._api import TaskResultStatus, task_backends


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    django_place.make_tables()
    tasks.ran.clear()
    yield
    connections.close_all()


@pytest.fixture
def place(
    sqs_server: SQSServer, sqs_group: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Options of a backend of tasks on that SQS."""
    sqs_server.set_environment(monkeypatch)
    yield {"prefix": f"{sqs_group}-", "broker": {"wait_time": 1}}
    sqs_server.delete_queues(f"deferrable_{sqs_group}")


def test_call_reaches_sqs_after_the_commit_and_its_result_is_found(place: dict[str, Any]) -> None:
    with tasks_in("sqs://", results=InMemoryResults(), **place), instance_of() as shop:
        with transaction.atomic():
            Note.objects.create(text="a row")
            result = tasks.add.enqueue(1, b=2)
            assert shop.backend.queue.stats()["available"] == 0
        assert shop.run_once() is not None
        found = tasks.add.get_result(result.id)

    assert (found.status, found.return_value) == (TaskResultStatus.SUCCESSFUL, 3)


def test_call_of_a_rolled_back_transaction_never_reaches_sqs(place: dict[str, Any]) -> None:
    with tasks_in("sqs://", keep_results_seconds=0, **place), instance_of() as shop:
        with transaction.atomic():
            tasks.add.enqueue(1)
            transaction.set_rollback(True)
        tasks.add.enqueue(2)
        assert shop.run_once() is not None

        assert shop.run_once() is None
    assert tasks.ran == [(2, 0)]


def test_run_after_of_more_than_sqs_can_delay_is_kept(place: dict[str, Any]) -> None:
    with tasks_in("sqs://", keep_results_seconds=0, **place), instance_of() as shop:
        moment = timezone.now() + timedelta(hours=2)
        tasks.add.using(run_after=moment).enqueue(1)

        assert shop.backend.queue.stats()["delayed"] == 1
        assert shop.run_once() is None


def test_result_without_a_store_says_what_to_set(place: dict[str, Any]) -> None:
    with tasks_in("sqs://", keep_results_seconds=0, **place), instance_of():
        result = tasks.add.enqueue(1)

        with pytest.raises(NotImplementedError, match="with SQS also results="):
            tasks.add.get_result(result.id)


def test_results_that_sqs_cannot_keep_are_refused_by_the_check(place: dict[str, Any]) -> None:
    with tasks_in("sqs://", **place):  # keep_results_seconds without results
        problems = list(task_backends["default"].check())

    assert [each.id for each in problems] == ["deferrable.E001"]
    assert "results=" in problems[0].msg
