"""Code of the user around what an instance does: around a ``later``, and around each job.

Owns the base class that users extend, and how a job's function is put inside of it. It is for what
must be open while a job runs and closed afterwards: a span, a database session, fields of a log.

The rule: the context manager of a job is entered where the job runs, in its thread or task and in
its context. So the job sees the context variables that it sets.
"""

import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeAlias

from deferrable.aio.current import CurrentAttempt, current_attempt
from deferrable.outcome import Outcome, Receipt

__all__ = ["Deferral", "Middleware", "Registered", "put_inside"]


class Deferral:
    """A call to ``later`` or ``later_many``, or a tick of a schedule, while it is made.

    Attributes:
        job_name: the name of the job.
        is_batch: many calls are pushed together.
        receipts: what is returned, once it is known; empty before, and after an error.
    """

    __slots__ = ("is_batch", "job_name", "receipts")

    def __init__(self, job_name: str, *, is_batch: bool = False) -> None:
        self.job_name = job_name
        self.is_batch = is_batch
        self.receipts: Sequence[Receipt] = ()


class Middleware:
    """Extend it, and register an object with an instance. Override what you need.

    The context managers are plain ones, also for async jobs: they must be quick. The first
    registered object is the outermost.
    """

    def around_later(self, deferral: Deferral) -> AbstractContextManager[object] | None:
        """What is entered before calls are serialized and pushed, and left afterwards.

        What it raises is raised to the caller of ``later``.
        """
        return None

    def around_job(self, attempt: CurrentAttempt) -> AbstractContextManager[object] | None:
        """What is entered right before a job runs, and left right after it.

        An async job that is stopped leaves it with a CancelledError; ``attempt.stop_reason`` says
        why. What it raises itself is the failure of the job.
        """
        return None

    def after_attempt(self, outcome: Outcome) -> None:
        """Called when an item was settled, and also when its job did not run.

        `current_attempt` works here. An error is logged, and nothing else changes.
        """


AroundLater: TypeAlias = Callable[[Deferral], AbstractContextManager[object] | None]
AroundJob: TypeAlias = Callable[[CurrentAttempt], AbstractContextManager[object] | None]


class Registered:
    """The middleware of an instance, by what each of them overrides.

    Attributes:
        all: in the order of registration.
        laters, jobs, ends: their methods that do something.
    """

    __slots__ = ("all", "ends", "jobs", "laters")

    def __init__(self, all_of_them: tuple[Middleware, ...] = ()) -> None:
        self.all = all_of_them
        self.laters: tuple[AroundLater, ...] = tuple(
            each.around_later for each in all_of_them if _overrides(each, "around_later")
        )
        self.jobs: tuple[AroundJob, ...] = tuple(
            each.around_job for each in all_of_them if _overrides(each, "around_job")
        )
        self.ends = tuple(
            each.after_attempt for each in all_of_them if _overrides(each, "after_attempt")
        )

    def around_later(self, deferral: Deferral) -> AbstractContextManager[object]:
        """What is to be entered around a ``later``."""
        if len(self.laters) == 1:  # as usual, and at a quarter of the cost
            return self.laters[0](deferral) or nullcontext()
        return self._all_around(deferral)

    @contextmanager
    def _all_around(self, deferral: Deferral) -> Iterator[None]:
        with ExitStack() as stack:
            for around in self.laters:
                manager = around(deferral)
                if manager is not None:
                    stack.enter_context(manager)
            yield


def _overrides(middleware: Middleware, name: str) -> bool:
    return getattr(type(middleware), name) is not getattr(Middleware, name)


def put_inside(
    arounds: Sequence[AroundJob], function: Callable[..., Any], *, is_async: bool
) -> Callable[..., Any]:
    """A job's function that runs inside of what `arounds` return; the first is the outermost."""
    for around in reversed(arounds):
        function = (_async_inside if is_async else _plain_inside)(around, function)
    return function


def _async_inside(
    around: AroundJob, function: Callable[..., Coroutine[Any, Any, Any]]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def run_inside(*args: Any, **kwargs: Any) -> Any:
        manager = around(current_attempt())
        if manager is None:
            return await function(*args, **kwargs)
        with manager:
            return await function(*args, **kwargs)

    return run_inside


def _plain_inside(around: AroundJob, function: Callable[..., Any]) -> Callable[..., Any]:
    def run_inside(*args: Any, **kwargs: Any) -> Any:
        manager = around(current_attempt())
        if manager is None:
            return function(*args, **kwargs)
        with ExitStack() as stack:
            stack.enter_context(manager)
            result = function(*args, **kwargs)
            if inspect.iscoroutine(result):
                # A plain callable around an async one: the job is what it returned.
                return await_inside(stack.pop_all(), result)
            return result

    return run_inside


async def await_inside(stack: ExitStack, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with stack:
        return await coroutine
