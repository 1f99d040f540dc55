"""Tasks for the tests of Django."""

import threading
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.utils import translation

from deferrable import Retry
from deferrable.contrib.django import task
from django_app.models import Note

ran: list[Any] = []


@task
def add(a: int, b: int = 0) -> int:
    ran.append((a, b))
    return a + b


@task
def note(text: str) -> None:
    Note.objects.create(text=text)


@task
async def anote(text: str) -> int:
    await Note.objects.acreate(text=text)
    return await Note.objects.acount()


@task(takes_context=True)
def about(context: Any, suffix: str = "") -> list[Any]:
    result = context.task_result
    return [result.id, context.attempt, result.task.name, result.args, suffix]


@task(max_attempts=3, use_exponential_backoff=False)
def flaky() -> None:
    ran.append("flaky")
    raise ConnectionError("away")


@task
def fail() -> None:
    raise Note.DoesNotExist("no such note")


@task
async def afail() -> None:
    raise Note.DoesNotExist("no such note")


@task
def pair(both: tuple[int, int]) -> str:
    return type(both).__name__


@task
def speak(language: str) -> str:
    before = translation.get_language()
    translation.activate(language)
    return f"{before} {translation.get_language()}"


@task
def look_at_connection() -> list[int]:
    connection.ensure_connection()
    return [id(connection.connection), threading.get_ident()]


@task
async def look_at_async_connection() -> int:
    await Note.objects.acount()
    return id(connections)


@task
def unjsonable() -> object:
    return object()


@task(debounce_seconds=60)
def index(document: int) -> None:
    ran.append(document)


@task(unique=True)
def report(year: int) -> None:
    ran.append(year)


@task
def later_again() -> None:
    raise Retry(after_seconds=60)


@task
def thing(*args: Any, **kwargs: Any) -> None:
    ran.append((args, kwargs))


@task
async def athreads() -> list[str]:
    """The threads in which an async task uses the ORM, one time after the other."""
    return [await sync_to_async(lambda: threading.current_thread().name)() for _ in range(3)]


class Trouble(Exception):
    pass


class Troubles(ExceptionGroup[Exception]):
    pass


trouble: Exception = Trouble()


@task
def raise_trouble() -> None:
    """Raise what a test has set, with a cause of the same name."""
    raise trouble from Trouble("the cause")
