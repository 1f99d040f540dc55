"""How the processes of a chaos run reach each broker.

Owns the backend of each kind. Many processes are started one after another, so each imports only
the client of one broker. The rule: an expensive import stands inside a function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from deferrable.aio.backend.base import Backend
from deferrable.aio.debounce import DebounceStore

__all__ = ["CLIENTS", "GROUP", "Client"]

GROUP = "chaos"


class Connect(Protocol):
    """One broker as its clients reach it; called in each process."""

    def __call__(self, url: str, lease_seconds: float) -> tuple[Backend, DebounceStore | None]:
        """A consumer and producer, and where debounce windows are kept; None: nowhere."""
        ...


@dataclass(frozen=True)
class Client:
    """What a process needs to know about a kind of broker.

    Attributes:
        most_waiting: producers wait for the workers beyond that, or what expires would do nothing
            else. (moto is the slower the more it holds.)
    """

    connect: Connect
    most_waiting: int


def dockets(url: str, lease_seconds: float) -> tuple[Backend, DebounceStore]:
    from deferrable.aio.backend._redis.debounce import RedisDebounceStore
    from deferrable.aio.backend.dockets import DocketsBackendFactory

    factory = DocketsBackendFactory(url, wait_time=1, timeout=lease_seconds)
    return factory.create_backend_for_group(GROUP), RedisDebounceStore(url)


def sqlite(url: str, lease_seconds: float) -> tuple[Backend, DebounceStore | None]:
    from deferrable.aio.backend.sqlite import SQLiteBackendFactory

    factory = SQLiteBackendFactory(
        url, wait_time=1, visibility_timeout=lease_seconds, durability="process"
    )
    backend = factory.create_backend_for_group(GROUP)
    return backend, backend.debounce_store


def sqs(url: str, lease_seconds: float) -> tuple[Backend, None]:
    from sqs_server import server_at

    from deferrable.aio.backend.sqs import SQSBackendFactory

    factory = SQSBackendFactory(
        server_at(url).connection(), visibility_timeout=lease_seconds, wait_time=1
    )
    return factory.create_backend_for_group(GROUP), None


CLIENTS: Mapping[str, Client] = {
    "redis": Client(dockets, most_waiting=2000),
    "redis6": Client(dockets, most_waiting=2000),
    "sqlite": Client(sqlite, most_waiting=2000),
    "sqs": Client(sqs, most_waiting=60),
}
