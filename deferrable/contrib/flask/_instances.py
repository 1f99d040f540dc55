"""The instances of Flask applications, for the paths that commands take.

Owns them by name. The path of an instance is ``deferrable.contrib.flask._instances:NAME``.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["add_instances", "path_of"]

_instances: dict[str, Any] = {}


def add_instances(named: Mapping[str, Any]) -> None:
    """Let commands find these instances."""
    _instances.update(named)


def path_of(name: str) -> str:
    """The path of an instance.

    Raises:
        LookupError: no application has it.
    """
    if name not in _instances:
        raise LookupError(f"the application has no instance {name!r}")
    return f"{__name__}:{name}"


def __getattr__(name: str) -> Any:
    try:
        return _instances[name]
    except KeyError:
        raise AttributeError(name) from None
