"""Django's settings for a process of tests, which Django has once.

Owns the database, a SQLite file, and what each test finds of it: an empty table of notes.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.conf import settings

__all__ = ["BACKEND", "DATABASE", "OTHER_DATABASE", "tasks_in"]

BACKEND = "deferrable.contrib.django.DeferrableBackend"
_FOLDER = Path(tempfile.mkdtemp(prefix="deferrable-django-"))
DATABASE, OTHER_DATABASE = _FOLDER / "site.db", _FOLDER / "other.db"

if not settings.configured:
    databases = {
        name: {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(path),
            "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        }
        for name, path in {"default": DATABASE, "other": OTHER_DATABASE}.items()
    }
    settings.configure(
        SECRET_KEY="for tests",
        USE_TZ=True,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="django_urls",
        DATABASES=databases,
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "deferrable.contrib.django",
            "django_app",
        ],
        TASKS={
            "default": {
                "BACKEND": BACKEND,
                "QUEUES": ["default", "mail"],
                "OPTIONS": {"url": "memory://"},
            }
        },
        LOGGING_CONFIG=None,
    )
    django.setup()

from django.db import connections  # noqa: E402
from django.test import override_settings  # noqa: E402
from django_app.models import Note  # noqa: E402


def make_tables() -> None:
    """Make the table of notes in both databases, empty."""
    for name in ("default", "other"):
        connection = connections[name]
        if Note._meta.db_table not in connection.introspection.table_names():
            with connection.schema_editor() as editor:
                editor.create_model(Note)
        Note.objects.using(name).all().delete()


@contextmanager
def tasks_in(
    url: str | None, queues: tuple[str, ...] = ("default", "mail"), **options: Any
) -> Iterator[None]:
    """Have the backend of tasks be another one in the block."""
    given = {"keep_results_seconds": 600, **({} if url is None else {"url": url}), **options}
    backend = {"BACKEND": BACKEND, "QUEUES": list(queues), "OPTIONS": given}
    with override_settings(TASKS={"default": backend}):
        yield
