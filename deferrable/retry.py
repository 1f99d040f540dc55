"""What a job raises to be run again.

Owns the one exception by which a job decides for itself that it is to be tried again, whatever its
``error_classes`` say. It may not know how that is done.
"""

__all__ = ["Retry"]


class Retry(Exception):
    """Raise it inside a job to have its item run again.

    When no attempts remain the item goes to the error queue; the error recorded is then the
    ``__cause__`` (``raise Retry() from error``), or this one if there is none.

    Args:
        after_seconds: how long to wait first; None: the job's backoff.
        count: whether this attempt counts. An attempt that does not may be repeated without end.
    """

    def __init__(self, after_seconds: float | None = None, count: bool = True) -> None:
        if after_seconds is not None and not 0 <= after_seconds < float("inf"):
            raise ValueError(f"after_seconds is a number from 0 on, got {after_seconds!r}")
        super().__init__(after_seconds, count)
        self.after_seconds = after_seconds
        self.count = count

    def __str__(self) -> str:
        when = "after its backoff" if self.after_seconds is None else f"in {self.after_seconds} s"
        return f"the job asked to be run again {when}"
