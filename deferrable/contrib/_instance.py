"""What integrations need of an instance, of either API.

Owns these protocols, and how an integration finds what it has registered before.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from deferrable import Clock, MetadataProducerConsumer, Middleware

__all__ = ["HasClock", "HasMiddleware", "Traceable", "registered"]

M = TypeVar("M", bound=Middleware)


class HasMiddleware(Protocol):
    """Jobs can be surrounded."""

    @property
    def middleware(self) -> tuple[Middleware, ...]: ...
    def register_middleware(self, middleware: Middleware) -> None: ...


class HasClock(HasMiddleware, Protocol):
    """And time can be told."""

    @property
    def clock(self) -> Clock: ...


class _Backend(Protocol):
    @property
    def group(self) -> str | None: ...
    @property
    def queue(self) -> object: ...


class Traceable(HasClock, Protocol):
    """And something can travel with each item."""

    @property
    def backend(self) -> _Backend: ...
    def register_metadata_producer_consumer(
        self, producer_consumer: MetadataProducerConsumer
    ) -> None: ...


def registered(
    instance: HasMiddleware, kind: type[M], is_meant: Callable[[M], bool] = lambda _: True
) -> M | None:
    """The middleware of this kind that an instance has already, so that it is not added twice."""
    found = (each for each in instance.middleware if isinstance(each, kind))
    return next(filter(is_meant, found), None)
