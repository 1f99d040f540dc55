"""The factory of backends in a SQLite file.

Owns the options, their checks and their defaults.
"""

import os
from typing import Literal

from deferrable._codec.refusals import short_repr
from deferrable._durations import Duration, check_number, optional_seconds_of, seconds_of
from deferrable._one_process import OneProcess
from deferrable.aio.backend.base import Backend, BackendFactory
from deferrable.aio.backend.sqlite._debounce import SQLiteDebounceStore
from deferrable.aio.backend.sqlite._place import Place
from deferrable.aio.backend.sqlite._queue import SQLiteQueue
from deferrable.aio.backend.sqlite._results import SQLiteResults
from deferrable.aio.backend.sqlite._schedules import SQLiteScheduleStore
from deferrable.aio.backend.sqlite._sharing import writer_of
from deferrable.aio.backend.sqlite._store import Lane
from deferrable.aio.clock import Clock
from deferrable.errors import InvalidOptions

__all__ = ["SQLiteBackendFactory"]

_SYNCHRONOUS = {"full": "FULL", "process": "NORMAL"}
_MOST_ITEM_BYTES = 900_000_000
"""SQLite's own limit of a row is 1,000,000,000 bytes, unless it was built with another one."""


class SQLiteBackendFactory(BackendFactory, OneProcess):
    """Creates backends in one SQLite file, which any number of processes of one machine share.

    There is no I/O before a queue is used; then the file and its tables are created if they do not
    exist. The application's own tables may be in the same file. The file must be on a local disk.

    Args:
        path: of the file. A relative path is resolved now.
        wait_time: how many seconds a pop waits for an item; 0: not at all.
        visibility_timeout: how many seconds a popped item stays hidden without a touch.
        durability: ``"full"``: what `later` has returned from is there after a power cut.
            ``"process"``: it is there after any process was killed, but a power cut may cost the
            last moments. Calls that are deferred one by one are several times faster.
        max_redeliveries: an item goes to the error queue when more deliveries than that ended
            without settlement.
        max_lease_seconds: how long after the pop heartbeats stop; None: they never stop.
        max_item_bytes: the most bytes of a new item's JSON, from 1 to 900,000,000. `later` refuses
            a larger one.
        clock: the source of time; None: the machine's clock.

    Raises:
        InvalidOptions: a number is out of range, the path is none of a file, or this Python's
            SQLite is older than 3.37.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        wait_time: Duration = 3,
        visibility_timeout: Duration = 30,
        *,
        durability: Literal["full", "process"] = "full",
        max_redeliveries: int = 10,
        max_lease_seconds: Duration | None = None,
        max_item_bytes: int = 100_000_000,
        clock: Clock | None = None,
    ) -> None:
        check_number(
            "max_item_bytes", max_item_bytes, least=1, most=_MOST_ITEM_BYTES, is_whole=True
        )
        check_number("max_redeliveries", max_redeliveries)
        if durability not in _SYNCHRONOUS:
            raise InvalidOptions(
                f"durability is 'full' (survives a power cut) or 'process' (survives a kill); got "
                f"{short_repr(durability)}"
            )
        self._wait_time = seconds_of("wait_time", wait_time)
        self._visibility_timeout = seconds_of(
            "visibility_timeout", visibility_timeout, is_over=True
        )
        self._max_redeliveries = max_redeliveries
        self._max_item_bytes = max_item_bytes
        self._max_lease_seconds = optional_seconds_of(
            "max_lease_seconds", max_lease_seconds, is_over=True
        )
        self._clock = clock
        self._writer = writer_of(Place(path), _SYNCHRONOUS[durability])

    def __repr__(self) -> str:
        return f"<SQLiteBackendFactory {self._writer.place.shown}>"

    def _create_backend(self, group: str | None, name: str) -> Backend:
        errors_name = f"{name}_error"
        return Backend(
            group,
            self._create_queue(Lane(name, errors_name, self._max_redeliveries)),
            self._create_queue(Lane(errors_name, None, float("inf"))),
            debounce_store=SQLiteDebounceStore(self._writer, self._clock),
            schedule_store=SQLiteScheduleStore(self._writer, self._clock),
            result_store=SQLiteResults(self._writer, self._clock),
        )

    def _create_queue(self, lane: Lane) -> SQLiteQueue:
        return SQLiteQueue(
            lane,
            self._writer,
            self._wait_time,
            self._visibility_timeout,
            self._max_lease_seconds,
            self._max_item_bytes,
            self._clock,
        )
