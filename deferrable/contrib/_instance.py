"""What integrations need of an instance, of either API. Owns these protocols."""

from typing import Protocol

from deferrable import Clock, MetadataProducerConsumer, Middleware

__all__ = ["HasClock", "HasMiddleware", "Traceable"]


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
