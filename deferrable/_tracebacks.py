"""Tracebacks of jobs, without the frames of the library that called them.

Owns which frames are left out: those at the start of a traceback, up to the call of the user's
function. All later frames stay, also the library's, because a failure may have its cause there.
"""

import os
import traceback
from types import TracebackType

__all__ = [
    "MOST_ERROR_TEXT",
    "MOST_TRACEBACK",
    "limited_text",
    "traceback_from_job",
    "traceback_text",
]

MOST_ERROR_TEXT = 10_000
"""Characters of an error's text that an error record keeps: its start."""
MOST_TRACEBACK = 20_000
"""Characters of a traceback that an error record and the log keep: its end, which has the error."""

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_CALLERS = frozenset(
    {"value_of", "value_of_awaited", "value_of_async", "run_in_task", "_run_after"}
    | {"__call__", "__await__", "_send", "_throw", "run_inside", "await_inside"}
)
"""The functions of the library that call user code."""


def traceback_from_job(trace: TracebackType | None) -> TracebackType | None:
    """The part of `trace` that begins with the user's code; all of it if there is none."""
    first = trace
    for _ in range(_own_count(trace)):
        assert first is not None
        first = first.tb_next
    return first


def traceback_text(error: BaseException) -> str:
    """Python's text for `error` and its causes, without the frames that called the job.

    Only the end of a long text is kept, after a line that says how much was cut.
    """
    shown = traceback.TracebackException.from_exception(error)
    to_cut: list[tuple[traceback.TracebackException, BaseException]] = [(shown, error)]
    while to_cut:
        shown_one, one = to_cut.pop()
        for _ in range(_own_count(one.__traceback__)):
            if shown_one.stack and shown_one.stack[0].filename.startswith(_PACKAGE):
                del shown_one.stack[0]
        pairs = [(shown_one.__cause__, one.__cause__), (shown_one.__context__, one.__context__)]
        if isinstance(one, BaseExceptionGroup):
            pairs += zip(shown_one.exceptions or (), one.exceptions, strict=False)
        to_cut += [(each, its) for each, its in pairs if each is not None and its is not None]
    text = "".join(shown.format())
    cut = len(text) - MOST_TRACEBACK
    return text if cut <= 0 else f"... ({cut} characters cut)\n{text[cut:]}"


def limited_text(text: str) -> str:
    """An error's text, or its start and how much was cut."""
    cut = len(text) - MOST_ERROR_TEXT
    return text if cut <= 0 else f"{text[:MOST_ERROR_TEXT]} ... ({cut} characters cut)"


def _own_count(trace: TracebackType | None) -> int:
    """How many frames at the start of `trace` belong to the library's call of a job."""
    count, caller = 0, ""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        count, caller = count + 1, trace.tb_frame.f_code.co_name
        trace = trace.tb_next
    return count if trace is not None and caller in _CALLERS else 0
