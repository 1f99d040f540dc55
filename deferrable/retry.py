"""The exception that a job raises to be run again, whatever its ``error_classes`` say."""

from deferrable._codec.refusals import describe
from deferrable._durations import Duration, optional_seconds_of
from deferrable.errors import InvalidOptions

__all__ = ["Retry", "checked"]


class Retry(Exception):
    """Raise it inside a job to run its item again.

    When no attempts remain the item goes to the error queue; the error recorded is then the
    ``__cause__`` (``raise Retry() from error``), or this one if there is none.

    Args:
        after_seconds: how long to wait first, a number of seconds or a `timedelta`; None: the job's
            backoff.
        count: whether this attempt counts. An attempt that does not count may be repeated for ever.

    Raises:
        InvalidOptions: `after_seconds` is something else, or negative.
    """

    # What holds for a subclass whose ``__init__`` does not call this one.
    after_seconds: float | None = None
    count: bool = True

    def __init__(self, after_seconds: Duration | None = None, count: bool = True) -> None:
        seconds = optional_seconds_of("after_seconds", after_seconds)
        super().__init__(seconds, count)
        self.after_seconds = seconds
        self.count = count

    def __str__(self) -> str:
        when = "after its backoff" if self.after_seconds is None else f"in {self.after_seconds} s"
        return f"the job asked to be run again {when}"


def checked(error: BaseException) -> BaseException:
    """`error`, or the error in what it asks for.

    Its attributes may have been set after it was made, or be a subclass's own.
    """
    if not isinstance(error, Retry):
        return error
    try:
        optional_seconds_of("after_seconds", error.after_seconds)
        bool(error.count)
    except Exception as wrong:
        return InvalidOptions(
            f"the job raised {type(error).__name__}, which cannot be followed: {describe(wrong)}"
        ).with_traceback(error.__traceback__)
    return error
