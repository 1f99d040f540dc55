"""What exporters of this process have not sent yet, when it ends without its exit handlers.

Owns the flushes that integrations add, and how they are called: all at once, each in its own
thread, because an exporter may ignore its limit.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import TypeAlias

__all__ = ["before_forced_end", "flush_all"]

_logger = logging.getLogger("deferrable.cli")

Flush: TypeAlias = Callable[[float], object]
"""Sends what is not sent yet, within so many seconds."""

_flushes: dict[Hashable, Flush] = {}


def before_forced_end(key: Hashable, flush: Flush) -> None:
    """Have a flush called before a worker is forced to end; a second one of a key changes nothing.

    A worker that ends in order runs the exit handlers of Python, and with them the exporters' own.
    """
    _flushes.setdefault(key, flush)


def flush_all(seconds: float) -> None:
    """Return when everything is sent, or the seconds are over."""
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_flush, args=(flush, seconds), name="deferrable-flush", daemon=True)
        for flush in list(_flushes.values())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _flush(flush: Flush, seconds: float) -> None:
    try:
        flush(seconds)
    except Exception:
        _logger.exception("an exporter could not send its last data")
