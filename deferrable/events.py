"""The events that an instance emits.

Owns their names and the check of event consumers. A consumer is any object with some
``on_EVENT(self, item)`` methods, plain or async.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["EVENTS", "check_event_consumer", "handler_of"]

EVENTS = frozenset(
    {
        "push",
        "pop",
        "empty",
        "complete",
        "expire",
        "cancel",
        "retry",
        "error",
        "release",
        "lease_lost",
        "overrun",
        "hop",
        "debounce_hit",
        "debounce_miss",
        "debounce_error",
        "duplicate",
    }
)


def check_event_consumer(consumer: object) -> None:
    """Refuse a consumer with a method that no event would ever call.

    Raises:
        ValueError: it has a method called ``on_`` something that is no event.
    """
    for name in dir(consumer):
        if name.startswith("on_") and name[3:] not in EVENTS and callable(getattr(consumer, name)):
            raise ValueError(
                f"{type(consumer).__name__}.{name} would never be called: there is no event "
                f"{name[3:]!r}; the events are {', '.join(sorted(EVENTS))}"
            )


def handler_of(consumer: object, event: str) -> Callable[[Any], Any] | None:
    """The consumer's method for `event`, if it has one."""
    handler = getattr(consumer, f"on_{event}", None)
    return handler if callable(handler) else None
