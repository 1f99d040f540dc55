"""Who hears of an instance's events, adds to its items, and stands around its jobs.

Owns how event consumers, metadata producers and middleware are registered, and forgotten.
"""

from deferrable.aio._engine.instance import Instance
from deferrable.aio.middleware import Middleware, Registered
from deferrable.events import check_event_consumer
from deferrable.metadata import MetadataProducerConsumer, check_namespace

__all__ = ["Listening"]


class Listening(Instance):
    """The part of an instance that listeners are registered with."""

    def register_event_consumer(self, consumer: object) -> None:
        """Call the ``on_EVENT(self, item)`` methods of an object from now on, plain or async.

        Consumers are called in the order of registration, after the event. If one raises, the error
        is logged and nothing else changes.

        Raises:
            ValueError: it has an ``on_`` method for an event that does not exist.
        """
        check_event_consumer(consumer)
        self.event_consumers = (*self.event_consumers, consumer)

    def clear_event_consumers(self) -> None:
        """Forget every event consumer."""
        self.event_consumers = ()

    def register_metadata_producer_consumer(
        self, producer_consumer: MetadataProducerConsumer
    ) -> None:
        """Let an object produce metadata for every item, and consume it before every job.

        Raises:
            ValueError: its namespace is already in use.
        """
        check_namespace(producer_consumer, self.metadata_producer_consumers)
        self.metadata_producer_consumers = (*self.metadata_producer_consumers, producer_consumer)

    def clear_metadata_producer_consumers(self) -> None:
        """Forget every metadata producer and consumer."""
        self.metadata_producer_consumers = ()

    def register_middleware(self, middleware: Middleware) -> None:
        """Enter an object's context managers around each ``later`` and each job from now on."""
        self.around = Registered((*self.middleware, middleware))

    def clear_middleware(self) -> None:
        """Forget all middleware."""
        self.around = None

    @property
    def middleware(self) -> tuple[Middleware, ...]:
        """The registered middleware, the outermost first."""
        return () if self.around is None else self.around.all
