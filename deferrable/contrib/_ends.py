"""What the error of a job means to a tracer.

Owns which errors are failures. A job that raises `Retry` asks to run again, and a job that is
stopped from outside has not failed.
"""

from deferrable import CurrentAttempt, Retry

__all__ = ["failure_of"]


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
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else (f"{kind.__module__}.{kind.__qualname__}")
    )
