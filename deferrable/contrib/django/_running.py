"""A task as a job: what is around its function in a worker.

Owns the database connections of a task, its context, and when its signals are sent.

The rule: a task finds and leaves connections as a request does. A plain task uses those of its
worker's thread. An async task has its own thread for the ORM, as a request under ASGI has, so that
closing its connections cannot close those of another task.
"""

import functools
import inspect
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.core.cache import close_caches
from django.db import connections, reset_queries
from django.utils import timezone

from deferrable import CurrentAttempt, Middleware, Outcome, current_attempt
from deferrable.contrib.django._api import (
    TaskContext,
    TaskResultStatus,
    task_finished,
    task_started,
)
from deferrable.contrib.django._results import error_of, make_result, moment
from deferrable.contrib.django._signals import send

__all__ = ["FinishedSignals", "own_connections", "runner_of"]

_results: WeakKeyDictionary[CurrentAttempt, Any] = WeakKeyDictionary()
"""The results of tasks that have started and are not settled."""


def runner_of(task: Any, alias: str, sender: type) -> Callable[..., Any]:
    """The function that a worker calls for a task.

    Args:
        task: as it was decorated.
        alias: of the backend.
        sender: of signals: the backend's class.
    """
    function = task.func

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        result = _started(task, alias, args, kwargs)
        send(task_started, sender, result)
        return (TaskContext(task_result=result), *args) if task.takes_context else args

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def await_inside(*args: Any, **kwargs: Any) -> Any:
            async with own_connections():
                return await function(*begin(args, kwargs), **kwargs)

        runner: Callable[..., Any] = await_inside
    else:

        @functools.wraps(function)
        def run_inside(*args: Any, **kwargs: Any) -> Any:
            with _fresh_connections():
                return function(*begin(args, kwargs), **kwargs)

        runner = run_inside
    if task.takes_context:
        vars(runner)["__signature__"] = _without_context(function)
    return runner


def _without_context(function: Callable[..., Any]) -> Any:
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


@functools.cache
def _worker_id() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"[:64]


os.register_at_fork(after_in_child=_worker_id.cache_clear)


def _started(task: Any, alias: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    attempt = current_attempt()
    now = timezone.now()
    result = make_result(
        task,
        attempt.id or "",
        TaskResultStatus.RUNNING,
        alias,
        args,
        kwargs,
        enqueued_at=moment(attempt.item.get("first_push_time")),
        started_at=now,
        last_attempted_at=now,
        worker_ids=[_worker_id()] * attempt.number,
    )
    _results[attempt] = result
    return result


@contextmanager
def _fresh_connections() -> Iterator[None]:
    reset_queries()
    _close_old_connections()
    try:
        yield
    finally:
        _close_old_connections()
        close_caches(sender=None)


def _close_old_connections() -> None:
    """As Django does around a request, but never in the transaction of who runs tasks: a test."""
    for each in connections.all(initialized_only=True):
        if not each.in_atomic_block:
            each.close_if_unusable_or_obsolete()


@asynccontextmanager
async def own_connections() -> AsyncIterator[None]:
    """Give what is awaited inside its own thread for the ORM. Close its connections at the end."""
    async with ThreadSensitiveContext() as context:
        if getattr(AsyncToSync.executors, "current", None) is None:
            # Or asgiref would find, from our second use of the ORM on, the thread of an
            # async_to_sync that called us from another thread. It may be waiting for us.
            AsyncToSync.executors.current = None
        try:
            yield
        finally:
            # No thread: no ORM was used, or that of the code that called us.
            if context in SyncToAsync.context_to_thread_executor:
                await sync_to_async(_close_all)()


def _close_all() -> None:
    connections.close_all()
    close_caches(sender=None)


class FinishedSignals(Middleware):
    """Sends ``task_finished`` once a task is settled for good.

    Args:
        sender: of signals.
    """

    def __init__(self, sender: type) -> None:
        self._sender = sender

    def after_attempt(self, outcome: Outcome) -> None:
        result = _results.pop(current_attempt(), None)
        if result is None:  # it did not start
            return
        if outcome.status == "completed":
            status, errors = TaskResultStatus.SUCCESSFUL, []
        elif outcome.status in ("errored", "cancelled") and outcome.error is not None:
            status, errors = TaskResultStatus.FAILED, [error_of(outcome.error)]
        else:
            return  # it will run again
        object.__setattr__(result, "status", status)
        object.__setattr__(result, "finished_at", timezone.now())
        object.__setattr__(result, "errors", errors)
        object.__setattr__(result, "_return_value", outcome.result)
        send(task_finished, self._sender, result, outcome.error)
