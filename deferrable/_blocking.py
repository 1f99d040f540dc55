"""The place where jobs find the blocking door.

Owns one slot. A job of either API serves callers that cannot await, but the asyncio API must not
import the blocking API. So the package's ``__init__``, which knows both, fills the slot. Nothing
is imported before the first blocking call.
"""

from collections.abc import Callable

__all__ = ["load", "register"]

_load: Callable[[], object] | None = None
_door: object = None


def register(load_door: Callable[[], object]) -> None:
    """Register the function that loads the blocking door."""
    global _load, _door
    _load, _door = load_door, None


def load() -> object:
    """The blocking door, loaded now if it was not yet."""
    global _door
    if _door is None:
        if _load is None:
            raise RuntimeError("no blocking door is registered; deferrable/__init__.py has to")
        _door = _load()
    return _door
