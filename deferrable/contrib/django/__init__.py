"""Django's tasks on deferrable: a backend for ``django.tasks``, and an app with a command.

Owns the list of public names. They are loaded when they are used, because Django imports an app
before its models can be used.
"""

from typing import TYPE_CHECKING

from deferrable._extras import missing_extra
from deferrable._lazy import lazy_names

try:
    import django  # noqa: F401
except ImportError as error:
    raise missing_extra("deferrable.contrib.django", "django", error) from error

if TYPE_CHECKING:
    from deferrable.contrib.django.asgi import with_dashboard
    from deferrable.contrib.django.backend import DeferrableBackend
    from deferrable.contrib.django.tasks import DeferrableTask, instance_of, periodic, task

__all__ = [
    "DeferrableBackend",
    "DeferrableTask",
    "instance_of",
    "periodic",
    "task",
    "with_dashboard",
]

_HERE = "deferrable.contrib.django"

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "DeferrableBackend": f"{_HERE}.backend",
        "DeferrableTask": f"{_HERE}.tasks",
        "instance_of": f"{_HERE}.tasks",
        "periodic": f"{_HERE}.tasks",
        "task": f"{_HERE}.tasks",
        "with_dashboard": f"{_HERE}.asgi",
    },
)
