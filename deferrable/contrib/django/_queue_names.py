"""The names of a site's queues on the command line.

Owns the form ``QUEUE`` or ``ALIAS:QUEUE``, and the path of the instance that a name stands for.
Nothing of the site's own code is imported here.
"""

from deferrable.contrib.django._api import task_backends
from deferrable.contrib.django.backend import DeferrableBackend

__all__ = ["DOT", "backends", "path_of", "queue_names"]

DOT = "%2E"
"""Stands for a dot of a name, which would part it in a path."""


def backends() -> dict[str, DeferrableBackend]:
    """The backends of ``TASKS`` that are ours, by alias."""
    every = {alias: task_backends[alias] for alias in task_backends}
    return {alias: each for alias, each in every.items() if isinstance(each, DeferrableBackend)}


def queue_names() -> list[str]:
    """The names of all queues that the settings name."""
    return [
        name if alias == "default" else f"{alias}:{name}"
        for alias, each in backends().items()
        for name in sorted(each.queues)
    ]


def path_of(name: str) -> str:
    """The path of a queue's instance.

    Args:
        name: ``QUEUE`` of the default backend, or ``ALIAS:QUEUE``.

    Raises:
        LookupError: there is no such queue.
    """
    alias, colon, queue = name.rpartition(":")
    alias = alias if colon else "default"
    backend = backends().get(alias)
    if backend is None:
        raise LookupError(f"TASKS has no backend of deferrable called {alias!r}")
    if not queue or (backend.queues and queue not in backend.queues):
        raise LookupError(f"TASKS[{alias!r}] has no queue {queue!r}")
    place = f"{alias}.{queue.replace('.', DOT)}"
    return f"deferrable.contrib.django.queues:{place}"
