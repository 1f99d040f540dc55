"""The signals of Django's tasks.

Owns the thread in which receivers run. The rule: a receiver may use the ORM, so on an event loop it
runs in a thread. Receivers get the signals of a process in their order. An error of a receiver is
logged by Django, and changes nothing for the task.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from django.db import close_old_connections

from deferrable._tracebacks import traceback_from_job

__all__ = ["asend_enqueued", "send"]

_OWN_RECEIVERS = 1
"""Django itself logs each signal, without I/O of a database."""


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="deferrable-signals")


def send(signal: Any, sender: type, result: Any, error: BaseException | None = None) -> None:
    """Send a signal from here, or from a thread if this is an event loop's thread.

    Args:
        error: with which the task failed; receivers find it in ``sys.exc_info()``.
    """
    if len(signal.receivers) <= _OWN_RECEIVERS or not _is_on_loop():
        _send(signal, sender, result, error)
    else:
        _executor().submit(_send_in_thread, signal, sender, result, error)


async def asend_enqueued(signal: Any, sender: type, result: Any) -> None:
    """Send a signal and wait for its receivers; without a thread if only Django listens."""
    if len(signal.receivers) <= _OWN_RECEIVERS:
        _send(signal, sender, result, None)
    else:
        await signal.asend_robust(sender=sender, task_result=result)


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _send_in_thread(signal: Any, sender: type, result: Any, error: BaseException | None) -> None:
    close_old_connections()
    try:
        _send(signal, sender, result, error)
    finally:
        close_old_connections()


def _send(signal: Any, sender: type, result: Any, error: BaseException | None) -> None:
    if error is None:
        signal.send_robust(sender=sender, task_result=result)
        return
    traceback = error.__traceback__
    try:
        raise error.with_traceback(traceback_from_job(traceback))
    except BaseException:
        signal.send_robust(sender=sender, task_result=result)
    finally:
        error.__traceback__ = traceback
        del error, traceback
