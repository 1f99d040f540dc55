"""The system checks of a backend.

Owns their ids. The rule: an unreachable broker is a warning, because a check runs before each
start, and a site may start while its broker does not answer.
"""

import threading
from collections.abc import Iterator
from typing import Any, cast

from django.conf import settings as django_settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from deferrable import Deferrable, DeferrableError
from deferrable.options import JobOptions, OptionChanges, change

__all__ = ["check_site"]

_ANSWER_SECONDS = 2.0


def check_site(backend: Any) -> Iterator[Any]:
    """Check the settings of a backend, and whether its broker answers."""
    where = f"TASKS[{backend.alias!r}]"
    try:
        instances = backend.site.instances
    except (ImproperlyConfigured, DeferrableError, ImportError, TypeError) as error:
        yield checks.Error(f"{where}: {error}", id="deferrable.E001")
        return
    yield from _check_options(where, backend.site.settings)
    some = next(iter(instances.values()), None)
    if some is None:  # QUEUES is empty: any queue
        some = backend.site.instance("default")
    if some.backend.queue.IS_LOCAL:
        yield checks.Error(
            f"{where} keeps its calls in the memory of this process.",
            hint="No worker in another process can see them. Give OPTIONS another url, or, if this "
            "one process also runs the worker, silence this check: "
            "SILENCED_SYSTEM_CHECKS = ['deferrable.E002'].",
            id="deferrable.E002",
        )
        return
    yield from _check_transaction(where, backend.site.settings)
    problem = _why_unreachable(some)
    if problem is not None:
        yield checks.Warning(f"{where}: {problem}", id="deferrable.W001")


def _check_options(where: str, settings: Any) -> Iterator[Any]:
    named = {"task_options": settings.task_options, **settings.tasks}
    for name, options in named.items():
        try:
            change(JobOptions(), cast(OptionChanges, dict(options)))
        except (DeferrableError, TypeError) as error:
            yield checks.Error(f"{where}, options of {name}: {error}", id="deferrable.E003")


def _check_transaction(where: str, settings: Any) -> Iterator[Any]:
    if settings.push != "in_transaction":
        return
    database = django_settings.DATABASES[settings.database]
    if database.get("OPTIONS", {}).get("transaction_mode") != "IMMEDIATE":
        yield checks.Warning(
            f"{where} pushes in transactions of the database {settings.database!r}, which begin "
            "without the lock to write.",
            hint=f"Set DATABASES[{settings.database!r}]['OPTIONS'] = "
            "{'transaction_mode': 'IMMEDIATE'}, or a transaction that reads first may fail with "
            "'database is locked'.",
            id="deferrable.W002",
        )


def _why_unreachable(instance: Deferrable) -> str | None:
    """Why the broker cannot be used; None if it answers."""
    errors: list[str] = []

    def ask() -> None:
        try:
            instance.backend.queue.stats()
        except Exception as error:
            errors.append(str(error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_ANSWER_SECONDS)
    if asking.is_alive():
        return f"{instance.backend.queue!r} has not answered within {_ANSWER_SECONDS:g} s"
    return errors[0] if errors else None
