"""The app for ``INSTALLED_APPS``, which brings the command ``manage.py deferrable``."""

from django.apps import AppConfig

__all__ = ["DeferrableConfig"]


class DeferrableConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """Its label is that of the library: ``django`` would be the last part of its name."""

    name = "deferrable.contrib.django"
    label = "deferrable"
    verbose_name = "Deferred calls"
