"""Run a job, and strike it at one of its points.

Owns how the lines and the waits of a job are counted, in the thread or the task that runs it.

The rule: a debugger or a measurement of coverage that traced the thread before traces it again
afterwards.
"""

import dis
import sys
from collections.abc import Awaitable, Callable, Generator
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, TypeAlias

from deferrable.testing.simulation._strikes import Point

__all__ = ["Crash", "OnPoint", "run_async", "run_plain"]


class Crash(BaseException):
    """The end of a process, for the job that ran in it."""


OnPoint: TypeAlias = Callable[[Point, FrameType | None], Awaitable[None] | None]
"""Called before each line and at each wait. It may raise `Crash`, and wait at a wait."""

Watched: TypeAlias = Callable[[CodeType], bool]
"""Whether lines of this code are points."""


class _Lines:
    """Calls `on_point` before each line of watched code that runs in the block, in this thread."""

    def __init__(self, is_watched: Watched, on_point: OnPoint) -> None:
        self._is_watched = is_watched
        self._on_point = on_point
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._on_call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _on_call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._on_event if self._is_watched(frame.f_code) else None

    def _on_event(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and frame.f_lasti not in _ends_of_with(frame.f_code):
            self._on_point("line", frame)
        return self._on_event


@lru_cache(maxsize=256)
def _ends_of_with(code: CodeType) -> frozenset[int]:
    """Where a ``with`` block is left. What is raised there would not call its ``__exit__``."""
    steps = list(dis.get_instructions(code))
    ends = set()
    for index in range(len(steps)):
        if _calls_exit(steps[index : index + 4]):
            ends.add(steps[index].offset)
            while index and steps[index - 1].opname in _ALREADY_LEFT:
                index -= 1
                ends.add(steps[index].offset)
    return frozenset(ends)


_ALREADY_LEFT = ("NOP", "SWAP", "PUSH_EXC_INFO")
"""Steps that may come before the call of ``__exit__``, outside of what the block protects."""


def _calls_exit(steps: list[dis.Instruction]) -> bool:
    """Whether they call it after an error, or with ``None, None, None``."""
    names = [each.opname for each in steps]
    return names[0] == "WITH_EXCEPT_START" or (
        names[3:] in (["CALL"], ["PRECALL"])
        and all(each.opname == "LOAD_CONST" and each.argval is None for each in steps[:3])
    )


def run_plain(run: Callable[[], Any], is_watched: Watched, on_point: OnPoint) -> Any:
    """The result of a plain function."""
    with _Lines(is_watched, on_point):
        return run()


class run_async:  # noqa: N801 - it is awaited like a coroutine function
    """The result of a coroutine, when awaited."""

    def __init__(self, coroutine: Any, is_watched: Watched, on_point: OnPoint) -> None:
        self._coroutine = coroutine
        self._lines = _Lines(is_watched, on_point)
        self._on_point = on_point

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        error: BaseException | None = None
        while True:
            try:
                with self._lines:
                    waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as returned:
                return returned.value
            error = None
            try:
                waiting = self._on_point("await", _innermost(self._coroutine))
                if waiting is not None:
                    yield from waiting.__await__()
                yield waits_for
            except BaseException as raised:
                error = raised


def _innermost(coroutine: Any) -> FrameType | None:
    """The frame of the job itself."""
    frame = getattr(coroutine, "cr_frame", None)
    return frame if isinstance(frame, FrameType) else None
