"""A periodic call of a job: what is called, and when.

Owns these values. `deferrable.aio._scheduling` makes them, and workers propose their ticks.
"""

from typing import Any

from deferrable._ticks import Plan
from deferrable.aio._engine.registry import RegisteredJob
from deferrable.options import JobOptions

__all__ = ["Scheduled"]


class Scheduled:
    """One schedule of an instance.

    Attributes:
        plan: its name and rules.
        job, options, args, kwargs: the call.
    """

    # No dataclass: a field that is a job would be a method to type checkers.
    __slots__ = ("args", "job", "kwargs", "options", "plan")

    def __init__(
        self,
        plan: Plan,
        job: RegisteredJob,
        options: JobOptions,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.plan = plan
        self.job = job
        self.options = options
        self.args = args
        self.kwargs = kwargs
