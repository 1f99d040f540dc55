"""Telling event consumers what happened.

Owns the one way in which a handler is called and what its failure means: it is logged, with its
name, and changes nothing. It may not know why an event happens. Each handler gets a copy of the
item, so that what it does to it changes nothing either.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context
from typing import Any

from deferrable._ended import Raised
from deferrable.aio.door import Door
from deferrable.events import handler_of
from deferrable.item import Item, copy_item

__all__ = ["emit"]

_logger = logging.getLogger("deferrable")


async def emit(
    door: Door, consumers: Sequence[object], event: str, item: Item | None, context: Context | None
) -> None:
    """Call each consumer's handler for `event`, in the order of registration.

    Args:
        item: what they are told of; None for the event ``empty``.
        context: a copy of it is what a handler sees; None: the caller's own context.
    """
    for consumer in consumers:
        handler = handler_of(consumer, event)
        if handler is None:
            continue
        lent = None if item is None else copy_item(item)
        ended = await door.call(None if context is None else context.copy(), handler, lent)
        if isinstance(ended, Raised):
            _pass_on_or_log(door, handler, ended.error)


def _pass_on_or_log(door: Door, handler: Any, error: BaseException) -> None:
    is_its_own = isinstance(error, Exception) or (
        isinstance(error, asyncio.CancelledError) and not door.is_being_cancelled()
    )
    if not is_its_own:
        raise error
    name = getattr(handler, "__qualname__", repr(handler))
    _logger.error("the event handler %s failed; it changes nothing", name, exc_info=error)
