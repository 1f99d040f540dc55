"""What the error of a job means to a tracer.

Owns which errors are failures. A job that raises `Retry` asks to run again, and a job that is
stopped from outside has not failed.
"""

from deferrable import CurrentAttempt, Retry

__all__ = ["failure_of", "type_name"]


def failure_of(attempt: CurrentAttempt, error: BaseException | None) -> str | None:
    """The type of the failure with which a job ended; None: it did not fail.

    Args:
        error: what the job raised, before the time limit turned it into a TimeoutError.
    """
    if error is None or isinstance(error, Retry):
        return None
    if attempt.stop_reason == "timed out":
        return "TimeoutError"
    if attempt.stop_reason is not None and not isinstance(error, Exception):
        return None
    return type_name(error)


def type_name(error: BaseException) -> str:
    """The type of an error, with its module if it is not built in."""
    kind = type(error)
    is_built_in = kind.__module__ == "builtins"
    return kind.__qualname__ if is_built_in else f"{kind.__module__}.{kind.__qualname__}"
