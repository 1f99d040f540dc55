"""What a job raises to be run again.

Owns the one exception by which a job decides for itself that it is to be tried again, whatever its
``error_classes`` say. It may not know how that is done.
"""

from deferrable._durations import Duration, optional_seconds_of

__all__ = ["Retry"]


class Retry(Exception):
    """Raise it inside a job to have its item run again.

    When no attempts remain the item goes to the error queue; the error recorded is then the
    ``__cause__`` (``raise Retry() from error``), or this one if there is none.

    Args:
        after_seconds: how long to wait first, a number of seconds or a `timedelta`; None: the job's
            backoff.
        count: whether this attempt counts. An attempt that does not may be repeated without end.

    Raises:
        InvalidOptions: `after_seconds` is something else, or negative.
    """

    def __init__(self, after_seconds: Duration | None = None, count: bool = True) -> None:
        seconds = optional_seconds_of("after_seconds", after_seconds)
        super().__init__(seconds, count)
        self.after_seconds = seconds
        self.count = count

    def __str__(self) -> str:
        when = "after its backoff" if self.after_seconds is None else f"in {self.after_seconds} s"
        return f"the job asked to be run again {when}"
