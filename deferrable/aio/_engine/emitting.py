"""Call event handlers.

Owns the one way to call a handler and what its failure means: it is logged, with the handler's
name, and nothing else changes. Each handler gets a copy of the item, so its changes to the item
have no effect either.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context

from deferrable._ended import Ended, Raised, Returned, value_of
from deferrable._error_log import log_error
from deferrable._tame import tame
from deferrable.aio._engine.running import Door
from deferrable.events import handler_of
from deferrable.item import Item, copy_item

__all__ = ["emit", "is_its_own", "log_or_raise"]

_logger = logging.getLogger("deferrable")


async def emit(
    door: Door, consumers: Sequence[object], event: str, item: Item | None, context: Context | None
) -> None:
    """Call each consumer's handler for `event`, in the order of registration.

    Args:
        item: the item of the event; None for the event ``empty``.
        context: a copy of it is what a handler sees; None: the caller's own context.
    """
    for consumer in consumers:
        ended = await _tell(door, consumer, event, item, context)
        try:
            if isinstance(ended, Raised):
                log_or_raise(door, f"{type(consumer).__qualname__}.on_{event}", ended.error)
        finally:
            del ended  # an error's traceback holds this frame


async def _tell(
    door: Door, consumer: object, event: str, item: Item | None, context: Context | None
) -> Ended[object]:
    found = value_of(handler_of, consumer, event)
    if isinstance(found, Raised):
        return found
    handler = found.value
    if handler is None:
        return Returned(None)
    lent = None if item is None else copy_item(item)
    return await door.call(None if context is None else context.copy(), handler, lent)


def log_or_raise(door: Door, name: str, error: BaseException) -> None:
    """Log the error of a user's callable; nothing else changes.

    Args:
        name: of the callable. (Not its ``repr``, which is the user's code, too.)

    Raises:
        BaseException: `error`, if it is not the callable's own: the caller is being cancelled, or
            the process is to end (KeyboardInterrupt, SystemExit).
    """
    error = tame(error)
    if not is_its_own(door, error):
        raise error
    log_error(_logger, error, "%s failed; nothing else changes", name)


def is_its_own(door: Door, error: BaseException) -> bool:
    """Whether an error is the failure of the callable that raised it, and of nothing else."""
    if isinstance(error, asyncio.CancelledError):
        return not door.is_being_cancelled()
    return isinstance(error, Exception)
