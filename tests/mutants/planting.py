"""How a bug is planted, and the table of all that were.

Owns what a mutant is: a subclass of one part of the in-memory backend, or of the tables of the
SQLite backend, the sentence that has to fail on it, and the sentences that may.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.memory import InMemoryBackendFactory, InMemoryQueue
from deferrable.aio.backend.memory._queue import Group
from deferrable.aio.backend.memory._store import Store
from deferrable.aio.backend.sqlite import SQLiteBackendFactory
from deferrable.aio.backend.sqlite._connection import Connection
from deferrable.aio.backend.sqlite._store import Store as Tables
from deferrable.testing import MovingClock

__all__ = ["MUTANTS", "Mutant", "PlantedFactory", "PlantedFile", "is_used", "mutant", "sentences"]

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Mutant:
    """A planted bug.

    Attributes:
        part: the subclass of `InMemoryQueue`, its `Store` or `Group`, or of the `Store` of the
            SQLite backend, that holds it.
        sentence: the test that has to fail on it.
        also: the tests that the same bug makes fail too, because they stand on the same promise.
    """

    part: type
    sentence: str
    also: frozenset[str]

    @property
    def name(self) -> str:
        return self.part.__name__

    @property
    def is_in_memory(self) -> bool:
        return not issubclass(self.part, Tables)


MUTANTS: list[Mutant] = []


def mutant(sentence: str, *also: str) -> Callable[[T], T]:
    """Put the decorated part into the table."""

    def enter(part: T) -> T:
        names = frozenset(f"test_{each}" for each in also)
        MUTANTS.append(Mutant(part, f"test_{sentence}", names))
        return part

    return enter


class PlantedFactory(InMemoryBackendFactory):
    """Creates in-memory backends of which one part is another."""

    def __init__(self, part: type, timeout: float | None, clock: MovingClock) -> None:
        super().__init__(timeout, clock=clock)
        self._queue_class = part if issubclass(part, InMemoryQueue) else InMemoryQueue
        store_class = part if issubclass(part, Store) else Store
        group_class = part if issubclass(part, Group) else Group
        self._items = group_class(self._visibility_timeout, self._max_redeliveries)
        self._items.errors = store_class(self._visibility_timeout)
        self._items.main = store_class(
            self._visibility_timeout, self._max_redeliveries, self._items.errors
        )

    def create(self) -> Backend:
        """Another consumer of the same items."""
        make = functools.partial(self._make, self._items)
        return Backend(None, make("main", self._items.main), make("errors", self._items.errors))

    def _make(self, items: Group, name: str, store: Store) -> InMemoryQueue:
        return self._queue_class(
            name, items, store, self._timeout, self._visibility_timeout, None, self._clock
        )


class PlantedFile:
    """Creates backends in a SQLite file of which the tables are another class."""

    def __init__(self, part: type, timeout: float | None, clock: MovingClock, path: Path) -> None:
        factory = SQLiteBackendFactory(path, timeout or 0, durability="process", clock=clock)
        transactions = factory._writer._transactions
        open_as_it_is = transactions._open

        def open_planted() -> Connection:
            connection = open_as_it_is()
            connection.store.__class__ = part
            return connection

        transactions._open = open_planted  # type: ignore[method-assign]
        self.create = functools.partial(factory.create_backend_for_group, None)


def sentences(suite: type) -> list[str]:
    """The tests of a suite."""
    return [name for name in dir(suite) if name.startswith("test_")]


def is_used(queue: Any) -> bool:
    """Whether anything was ever pushed onto the queue."""
    return repr(queue.store._numbers) != "count(0)"
