"""The queues of a Django site, for the paths that the command line takes.

Owns the import of all tasks: after it, every task of the installed apps is known. The
path of a queue is ``deferrable.contrib.django.queues:ALIAS.QUEUE``.
"""

import sys
from typing import Any

from django.utils.module_loading import autodiscover_modules

from deferrable.contrib.django._api import Task
from deferrable.contrib.django._queue_names import DOT, backends
from deferrable.contrib.django._site import note_task
from deferrable.contrib.django.backend import DeferrableBackend

__all__: list[str] = []


def _note_all() -> None:
    """Note tasks of other backends, too: ``using(backend=...)`` may send them here."""
    for name, module in list(sys.modules.items()):
        if name.rpartition(".")[2] == "tasks" and module is not None:
            for task in list(vars(module).values()):
                if isinstance(task, Task):
                    note_task(task)


class _Queues:
    def __init__(self, backend: DeferrableBackend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        name, backend = name.replace(DOT, "."), self._backend
        if backend.queues and name not in backend.queues:
            raise AttributeError(f"TASKS[{backend.alias!r}] has no queue {name!r}")
        return backend.site.instance(name)


def __getattr__(alias: str) -> Any:
    backend = backends().get(alias)
    if backend is None:
        raise AttributeError(f"TASKS has no backend of deferrable called {alias!r}")
    return _Queues(backend)


autodiscover_modules("tasks")
_note_all()
