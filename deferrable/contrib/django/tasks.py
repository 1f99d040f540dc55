"""Tasks with the options of jobs.

Owns the class of our tasks, and the decorators. The options are those of `deferrable.options`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any

from deferrable import Deferrable
from deferrable.contrib.django import _site
from deferrable.contrib.django._api import Task, task_backends
from deferrable.options import JobOptions

__all__ = ["Arguments", "DeferrableTask", "instance_of", "options_of", "periodic", "task"]

_NOT_FOR_TASKS = frozenset({"run_at", "call_id", "keep_call"})
_NAMES = tuple(each.name for each in fields(JobOptions) if each.name not in _NOT_FOR_TASKS)


def _using(
    self: Any,
    *,
    priority: int | None = None,
    queue_name: str | None = None,
    run_after: Any = None,
    backend: str | None = None,
    **options: Any,
) -> Any:
    """This task with other settings or options, for calls of the returned one."""
    settings = {
        "priority": priority,
        "queue_name": queue_name,
        "run_after": run_after,
        "backend": backend,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    return replace(self, **given, **options)


def _deferrable_job(self: Any) -> Any:
    """The job behind the task, for verbs of the library that take one."""
    return task_backends[self.backend].site.job(self)


DeferrableTask: Any = make_dataclass(
    "DeferrableTask",
    [(name, Any, field(default=None)) for name in _NAMES],
    bases=(Task,),
    namespace={
        "using": _using,
        "_deferrable_job": property(_deferrable_job),
        "__module__": __name__,
        "__doc__": "A task of Django with the options of a job; None: not given.",
    },
    frozen=True,
    slots=True,
    kw_only=True,
)


def options_of(task: Any) -> dict[str, Any]:
    """The options that were given to a task, of whatever class it is."""
    options = {name: getattr(task, name, None) for name in _NAMES}
    return {name: value for name, value in options.items() if value is not None}


def task(
    function: Callable[..., Any] | None = None,
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: bool = False,
    **options: Any,
) -> Any:
    """``django.tasks.task`` with the options of jobs, also before Django 6.1.

    Args:
        priority: as Django has it; so are the next three.
        queue_name: of the task.
        backend: the alias in ``TASKS``.
        takes_context: the function's first argument is the context.
        options: those of ``@instance.deferrable``, such as ``max_attempts``.

    Raises:
        TypeError: the backend's tasks have no such option.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        return task_backends[backend].task_class(
            func=function,
            priority=priority,
            queue_name=queue_name,
            backend=backend,
            takes_context=takes_context,
            run_after=None,
            **options,
        )

    return decorate if function is None else decorate(function)


def periodic(cron: str | None = None, **schedule: Any) -> Callable[[Any], Any]:
    """Enqueue a task at each tick of a schedule. Put it above ``@task``.

    The module must be one that workers import: ``tasks`` of an installed app.

    Args:
        cron: as `deferrable.Deferrable.periodic` takes it.
        schedule: the keywords of `deferrable.Deferrable.periodic`.
    """

    def decorate(task: Any) -> Any:
        if not isinstance(task, Task):
            raise TypeError(
                f"periodic takes a task, got {task!r:.200}; write @periodic(...) above @task"
            )
        _site.add_schedule(task, {"cron": cron, **schedule})
        return task

    return decorate


def instance_of(queue_name: str = "default", *, backend: str = "default") -> Deferrable:
    """The instance behind a queue, for what Django's API has not: pause, errors, peek, tests.

    Args:
        queue_name: as a task has it.
        backend: the alias in ``TASKS``.
    """
    instance: Deferrable = task_backends[backend].site.instance(queue_name)
    return instance


@dataclass(frozen=True, slots=True)
class Arguments:
    """Whether a task's function takes the arguments of a call."""

    function: Callable[..., Any]
    takes_context: bool

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that the function would refuse.

        Raises:
            TypeError: saying which.
        """
        given = (None, *args) if self.takes_context else args
        _signature(self.function).bind(*given, **kwargs)


@functools.lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)
