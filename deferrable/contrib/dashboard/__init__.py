"""A dashboard: pages that show queues, calls, errors and schedules, and change them if allowed.

Owns the one public name, and the error for a missing extra. Everything else loads with it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deferrable.contrib.dashboard._app import app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import jinja2  # noqa: F401
        import starlette  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"the dashboard needs the package {error.name!r}, which is not installed; install the "
            "extra: pip install 'deferrable[dashboard]'",
            name=error.name,
        ) from error
    from deferrable.contrib.dashboard._app import app

    return app
