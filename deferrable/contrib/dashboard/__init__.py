"""A dashboard: pages that show queues, calls, errors and schedules, and change them if allowed.

Owns the one public name, and the error for a missing extra. Everything else loads with it.
"""

from typing import TYPE_CHECKING, Any

from deferrable._extras import missing_extra

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
        raise missing_extra("the dashboard", "dashboard", error) from error
    from deferrable.contrib.dashboard._app import app

    return app
