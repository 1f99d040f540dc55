"""The place where jobs find the driver of blocking calls.

Owns one slot. A job of either API serves callers that cannot await, but the asyncio API must not
import the blocking API. So the package's ``__init__``, which knows both, fills the slot. Nothing
is imported before the first blocking call.
"""

from collections.abc import Callable

__all__ = ["load", "register"]

_load: Callable[[], object] | None = None
_driver: object = None


def register(load_driver: Callable[[], object]) -> None:
    """Register the function that loads the driver of blocking calls."""
    global _load, _driver
    _load, _driver = load_driver, None


def load() -> object:
    """The driver, loaded now if it was not yet."""
    global _driver
    if _driver is None:
        if _load is None:
            raise RuntimeError(
                "no driver of blocking calls is registered; deferrable/__init__.py must do that"
            )
        _driver = _load()
    return _driver
