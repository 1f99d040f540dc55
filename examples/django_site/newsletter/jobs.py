"""The jobs of the site. Views defer them, and the command ``run_worker`` runs them."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.db import OperationalError, close_old_connections

from deferrable import Deferrable, backend

from .models import Subscriber

P = ParamSpec("P")
R = TypeVar("R")

factory = backend.DocketsBackendFactory(settings.REDIS_URL)
mail = Deferrable(
    factory.create_backend_for_group("django_site"),
    default_error_classes=[ConnectionError, OperationalError],
)


def with_database(function: Callable[P, R]) -> Callable[P, R]:
    """Close stale database connections around a job, as Django does around a request."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return run


@mail.deferrable
@with_database
def welcome(subscriber_id: int) -> str:
    subscriber = Subscriber.objects.get(id=subscriber_id)
    if not subscriber.is_welcomed:  # at least once: a second run finds that all is done
        # Call your mail server here.
        subscriber.is_welcomed = True
        subscriber.save(update_fields=["is_welcomed"])
    return f"Welcome, {subscriber.email}!"
