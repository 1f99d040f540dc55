"""Blocking calls in a thread whose event loop is running.

Owns the warning and the error about them, with the place in the code. Such a call works, because
older code relies on it, but nothing else runs on that loop until it returns. So it warns, once for
each place in the code. A blocking call that is awaited is a mistake, and raises before it has any
effect.
"""

import dis
import sys
import warnings
from types import FrameType

from deferrable.errors import BlocksEventLoop, WrongApi

__all__ = ["warn_of_blocking"]

_CACHE = dis.opmap.get("CACHE", 0)
_GET_AWAITABLE = dis.opmap["GET_AWAITABLE"]


def warn_of_blocking(instead: str) -> None:
    """Warn that the current call blocks the running event loop.

    Args:
        instead: what to write instead.

    Raises:
        WrongApi: the result of the call is awaited.
    """
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and _is_ours(frame):
        if frame.f_code.co_name == "run_once" and level > _RUN_ONCE_LEVEL:
            return  # it has warned itself before it popped
        frame = frame.f_back
        level += 1
    if frame is not None and _is_awaited(frame):
        raise WrongApi(
            f"`await` on a method of the blocking API, which does not return an awaitable; write "
            f"{instead}, or leave `await` out to block the event loop. Nothing was done yet"
        )
    warnings.warn(
        f"a blocking call holds this event loop until it returns; write {instead}",
        BlocksEventLoop,
        stacklevel=level,
    )


_RUN_ONCE_LEVEL = 3
"""Where ``run_once`` stands when the call is its own: above `refuse_portal_thread`."""


def _is_ours(frame: FrameType) -> bool:
    module: str = frame.f_globals.get("__name__", "")
    return module.startswith("deferrable.")


def _is_awaited(frame: FrameType) -> bool:
    """Whether the instruction after the call that `frame` makes is an ``await``."""
    code, index = frame.f_code.co_code, frame.f_lasti + 2
    while index < len(code) and code[index] == _CACHE:
        index += 2
    return index < len(code) and code[index] == _GET_AWAITABLE
