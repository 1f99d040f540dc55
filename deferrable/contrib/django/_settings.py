"""The ``OPTIONS`` of a task backend in Django's settings.

Owns their names, and what is wrong with them. Nothing is connected here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from deferrable.backend import BackendFactory, SQLiteBackendFactory, from_url

__all__ = ["PushMode", "Settings", "read_settings"]

PushMode: TypeAlias = Literal["on_commit", "in_transaction", "at_once"]

_INSTANCE_NAMES = (
    *("serializer", "accept", "signing_keys", "encryption", "import_from", "default_max_attempts"),
    *("default_error_classes", "keep_results_seconds", "results", "debounce_store"),
    *("schedule_store", "lifespan"),
)
"""Arguments of `deferrable.Deferrable` that a site may set."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one backend of ``TASKS``.

    Attributes:
        url: of the broker, for `deferrable.backend.from_url`; None: the SQLite file of `database`
            if `push` is ``in_transaction``, else what the environment's DEFERRABLE_URL says.
        factory: instead of a URL a backend factory, or the dotted path of one.
        broker: settings of the factory, such as ``visibility_timeout``.
        prefix: stands before the name of each queue in the broker. Sites that share a broker need
            different ones.
        push: when a call inside of ``atomic`` is pushed: ``on_commit``, ``in_transaction`` (a part
            of it; SQLite) or ``at_once``.
        database: the alias of the database whose transactions are meant.
        task_options: options of every task.
        tasks: options of single tasks, by their dotted paths.
        instance: arguments of `deferrable.Deferrable`.
    """

    url: str | None = None
    factory: BackendFactory | str | None = None
    broker: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = "django-"
    push: PushMode = "on_commit"
    database: str = "default"
    task_options: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    instance: Mapping[str, Any] = field(default_factory=dict)

    def make_factory(self) -> BackendFactory:
        """The factory of the backend; it does no I/O."""
        if self.factory is not None:
            return import_string(self.factory) if isinstance(self.factory, str) else self.factory
        if self.url is None and self.push == "in_transaction":
            return SQLiteBackendFactory(self._database_file(), **self.broker)
        return from_url(self.url, **self.broker)

    def _database_file(self) -> Path:
        database = django_settings.DATABASES[self.database]
        if database["ENGINE"] != "django.db.backends.sqlite3":
            raise ImproperlyConfigured(
                f"push='in_transaction' needs a database of SQLite, and DATABASES"
                f"[{self.database!r}] is of {database['ENGINE']}; use push='on_commit'"
            )
        return Path(database["NAME"])


def read_settings(alias: str, options: Mapping[str, Any]) -> Settings:
    """The options of the backend called `alias`.

    Raises:
        ImproperlyConfigured: an option is unknown, or a value is wrong.
    """
    names = set(Settings.__dataclass_fields__) - {"instance"}
    given = {name: value for name, value in options.items() if name in names}
    instance = {name: value for name, value in options.items() if name in _INSTANCE_NAMES}
    unknown = sorted(set(options) - names - set(_INSTANCE_NAMES))
    where = f"TASKS[{alias!r}]['OPTIONS']"
    if unknown:
        known = ", ".join(sorted({*names, *_INSTANCE_NAMES}))
        raise ImproperlyConfigured(f"{where} has {unknown[0]!r}, which is unknown; known: {known}")
    if given.get("push", "on_commit") not in get_args(PushMode):
        choices = ", ".join(map(repr, get_args(PushMode)))
        raise ImproperlyConfigured(f"{where}['push'] is one of {choices}, got {given['push']!r}")
    if given.get("url") is not None and given.get("factory") is not None:
        raise ImproperlyConfigured(f"{where} has both url and factory; give one of them")
    if given.get("database", "default") not in django_settings.DATABASES:
        raise ImproperlyConfigured(
            f"{where}['database'] is {given.get('database')!r}, which DATABASES does not have"
        )
    return Settings(**given, instance=instance)
