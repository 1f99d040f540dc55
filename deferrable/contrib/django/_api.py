"""The tasks of Django, or of the package ``django-tasks`` on Django before 6.0.

Owns which of the two is used, under the names that Django has.
"""

from importlib import import_module
from typing import Any

import django

_IS_IN_DJANGO = django.VERSION[0] >= 6
_ROOT = "django.tasks" if _IS_IN_DJANGO else "django_tasks"

try:
    _tasks = import_module(_ROOT)
except ImportError as error:
    raise ImportError(
        f"Django {django.__version__} has no tasks; install the package that brings them: "
        "pip install django-tasks",
        name=error.name,
    ) from error
_base = import_module(f"{_ROOT}.base")
_exceptions = import_module(f"{_ROOT}.exceptions")
_signals = import_module(f"{_ROOT}.signals")

task_backends: Any = _tasks.task_backends
BaseTaskBackend: Any = import_module(f"{_ROOT}.backends.base").BaseTaskBackend
Task: Any = _base.Task
TaskContext: Any = _base.TaskContext
TaskError: Any = _base.TaskError
TaskResult: Any = _base.TaskResult
TaskResultStatus: Any = _base.TaskResultStatus
InvalidTask: Any = getattr(_exceptions, "InvalidTask" if _IS_IN_DJANGO else "InvalidTaskError")
TaskResultDoesNotExist: Any = _exceptions.TaskResultDoesNotExist
task_enqueued: Any = _signals.task_enqueued
task_finished: Any = _signals.task_finished
task_started: Any = _signals.task_started
normalize_json: Any = import_module(
    "django.utils.json" if _IS_IN_DJANGO else "django_tasks.utils"
).normalize_json

__all__ = [
    "BaseTaskBackend",
    "InvalidTask",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "normalize_json",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]
