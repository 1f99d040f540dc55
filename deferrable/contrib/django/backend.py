"""The backend of ``TASKS``.

Owns how a call is enqueued, and how its result is found.

The rule: a call that is enqueued in an open transaction is pushed when it commits, and never if it
is rolled back. Its id is known at once.
"""

import functools
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.db import connections, transaction
from django.utils import timezone

from deferrable import Job, Receipt
from deferrable.contrib.django._api import (
    BaseTaskBackend,
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
)
from deferrable.contrib.django._checks import check_site
from deferrable.contrib.django._results import make_result, moment, result_of
from deferrable.contrib.django._signals import asend_enqueued, send
from deferrable.contrib.django._site import Site, find_task, note_task, site_of, why_not_importable
from deferrable.contrib.django.tasks import Arguments, DeferrableTask, options_of

__all__ = ["DeferrableBackend"]

_JSON_ADVICE = (
    "the arguments of a task are JSON; give the id of a model instance (pk), isoformat() of a "
    "moment, str() of a lazy translation or a UUID, list() of a set"
)


@dataclass(frozen=True, slots=True)
class _Pushable:
    """A call that can be pushed: the job with its options, and the result to hand out."""

    job: "Job[..., Any]"
    result: Any


class DeferrableBackend(BaseTaskBackend):  # type: ignore[misc]  # Django has no types
    """Tasks of Django, in a queue of deferrable."""

    task_class = DeferrableTask
    supports_async_task = True
    supports_priority = False

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._params = params

    @functools.cached_property
    def site(self) -> Site:
        """What all threads share.

        Raises:
            ImproperlyConfigured: the settings are wrong.
        """
        return site_of(self.alias, type(self), self.queues, self._params)

    @property
    def supports_defer(self) -> bool:
        """Whether the queue keeps a call until ``run_after``."""
        return True

    @property
    def supports_get_result(self) -> bool:
        """Whether results are kept for other processes."""
        return bool(self.site.settings.instance.get("keep_results_seconds"))

    def validate_task(self, task: Any) -> None:
        """Refuse a task that cannot be run, and remember one that can.

        Raises:
            InvalidTask: saying why.
        """
        if task.priority and not self.supports_priority:
            raise InvalidTask(
                "Backend does not support setting priority of tasks. Give urgent tasks a queue: "
                "queue_name=, and a worker that serves it first: "
                "manage.py deferrable worker urgent default --order strict"
            )
        super().validate_task(task)
        note_task(task)

    def check(self, **kwargs: Any) -> Iterable[Any]:
        """The messages of ``manage.py check``."""
        return check_site(self)

    # Enqueueing.

    def enqueue(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Push a call, or have it pushed when the open transaction commits.

        Raises:
            InvalidTask: no worker could run it.
            TypeError: an argument is not JSON, or the function does not take it.
            BackendError: the broker refused it. After a commit, it is raised to who commits.
            TransactionManagementError: a transaction is open in which Django cannot wait for the
                commit, because autocommit is off.
        """
        connection = connections[self.site.settings.database]
        is_open = _is_in_transaction(connection)
        mode = self.site.settings.push if is_open else "at_once"
        if mode == "on_commit" and not connection.in_atomic_block:
            raise transaction.TransactionManagementError(
                f"the database {self.site.settings.database!r} is not in autocommit mode, and no "
                "atomic() block is open, so Django cannot say when the transaction commits; write "
                "with transaction.atomic(): around it, or set 'push': 'at_once' in OPTIONS"
            )
        pushable = self._pushable(task, args, kwargs, with_id=mode == "on_commit")
        if mode == "on_commit":
            self._after_commit(lambda: self._push(pushable))
        elif mode == "in_transaction":
            self._push(pushable, self._using(task, connection), self._after_commit)
        else:
            self._push(pushable)
        return pushable.result

    async def aenqueue(self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Push a call from async code, where no transaction can be open. No thread is used.

        Raises:
            InvalidTask, TypeError, BackendError: see `enqueue`.
        """
        pushable = self._pushable(task, args, kwargs, with_id=False)
        result = pushable.result
        receipt = await pushable.job.later_async(*result.args, **result.kwargs)
        _note_receipt(result, receipt)
        await asend_enqueued(task_enqueued, type(self), result)
        return result

    def _pushable(
        self, task: Any, args: Any, kwargs: Mapping[str, Any], *, with_id: bool
    ) -> _Pushable:
        self.validate_task(task)
        reason = why_not_importable(task)
        if reason is not None:
            raise InvalidTask(f"no worker could import {task.module_path}: {reason}")
        Arguments(task.func, task.takes_context).check(tuple(args), kwargs)
        result_id = uuid.uuid4().hex
        try:
            result = make_result(
                task, result_id, TaskResultStatus.READY, self.alias, list(args), dict(kwargs)
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}, in a call of {task.module_path}; {_JSON_ADVICE}") from None
        job = self._job(task)
        return _Pushable(job.options(call_id=result_id) if with_id else job, result)

    def _job(self, task: Any) -> "Job[..., Any]":
        """The job of a task, with the options of the settings and of the task."""
        site, job = self.site, self.site.job(task)
        options: dict[str, Any] = {
            **site.settings.task_options,
            **site.settings.tasks.get(task.module_path, {}),
            **options_of(task),
        }
        if task.run_after is not None:
            options.pop("delay_seconds", None)
            options["run_at"] = _aware(task.run_after)
        has_classes = "error_classes" in options or site.settings.instance.get(
            "default_error_classes"
        )
        if options.get("max_attempts", 1) > 1 and not has_classes:
            options["error_classes"] = (Exception,)
        if self.supports_get_result:
            options["keep_call"] = True
        return job.options(**options) if options else job

    def _using(self, task: Any, connection: Any) -> AbstractContextManager[None]:
        instance = self.site.instance(task.queue_name)
        if instance.backend.queue.IS_LOCAL:  # in a test
            return nullcontext()
        return instance.using(connection)

    def _after_commit(self, function: Callable[[], None]) -> None:
        transaction.on_commit(function, using=self.site.settings.database)

    def _push(
        self,
        pushable: _Pushable,
        inside: AbstractContextManager[None] | None = None,
        announce: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        result = pushable.result
        with inside or nullcontext():
            receipt = pushable.job.later(*result.args, **result.kwargs)
        _note_receipt(result, receipt)

        def tell() -> None:
            send(task_enqueued, type(self), result)

        tell() if announce is None else announce(tell)

    # Results.

    def get_result(self, result_id: str) -> Any:
        """The result of a call, while a queue has it or its result is kept.

        Raises:
            TaskResultDoesNotExist: neither is so.
            NotImplementedError: the queue shows no calls, and no results are kept.
            BackendError: the broker could not be reached.
        """
        for instance in self._searched():
            described = instance.call(result_id).describe()
            if described is not None:
                return self._result(described, result_id)
        raise TaskResultDoesNotExist(result_id)

    async def aget_result(self, result_id: str) -> Any:
        """The result of a call, on the running loop; see `get_result`."""
        for instance in self._searched():
            described = await instance.call(result_id).describe_async()
            if described is not None:
                return self._result(described, result_id)
        raise TaskResultDoesNotExist(result_id)

    def _searched(self) -> list[Any]:
        instances = list(self.site.instances.values())
        if not self.supports_get_result and any(
            not each.backend.queue.SUPPORTS_INSPECTION for each in instances
        ):
            raise NotImplementedError(
                "this queue cannot show calls, and results are not kept; set "
                "keep_results_seconds, with SQS also results=, in OPTIONS"
            )
        return instances

    def _result(self, described: Any, result_id: str) -> Any:
        if not described.item:
            raise TaskResultDoesNotExist(result_id)  # kept without its call
        try:
            return result_of(described, self.alias, find_task)
        except LookupError as error:
            raise TaskResultDoesNotExist(result_id) from error


def _is_in_transaction(connection: Any) -> bool:
    """Whether a commit is to come. No connection is opened to find out."""
    if connection.in_atomic_block:
        return True
    return connection.connection is not None and not connection.autocommit


def _aware(run_after: Any) -> Any:
    return run_after if timezone.is_aware(run_after) else timezone.make_aware(run_after)


def _note_receipt(result: Any, receipt: Receipt) -> None:
    """Note the id of the call that runs, which may be one that was pending."""
    call_id = receipt.id or receipt.serves_id
    if call_id is not None:
        object.__setattr__(result, "id", call_id)
    now = timezone.now() if django_settings.USE_TZ else None
    is_pushed = receipt.status == "pushed"
    pushed_at = moment(receipt.available_time) if is_pushed else now
    object.__setattr__(result, "enqueued_at", pushed_at or timezone.now())
