"""The verbs of a queue that only some brokers have.

Owns their promises, and the refusal by a queue of any other broker. An adapter that can do one
overrides it.
"""

from contextlib import AbstractContextManager

from deferrable.aio._contract.handed import Handed
from deferrable.errors import Unsupported

__all__ = ["SomeBrokers"]


class SomeBrokers:
    """The verbs that a queue refuses, unless its adapter overrides them."""

    def using(self, connection: object) -> AbstractContextManager[None]:
        """Have pushes in a ``with`` block be a part of the user's own database transaction.

        Raises:
            Unsupported: the items are in no database that the user could have a connection to.
            InvalidOptions: the connection is not one to the database of the items.
        """
        raise Unsupported(
            f"{self!r} is in no database of yours, so a push cannot be a part of your transaction; "
            "SQLiteBackendFactory can do this, with your tables in the same file"
        )

    async def server_memory(self) -> dict[str, int]:
        """The memory of the server that holds the items, for people who watch it.

        Returns:
            ``used_bytes``, and ``max_bytes`` if it has a limit. Empty if the broker does not say;
            only Redis does.
        """
        return {}

    async def take_event(self, event: object, seconds: float) -> list[Handed]:
        """The items in an event by which somebody else hands over messages of this queue.

        Nothing is asked of the broker about them: they are neither touched nor deleted here.

        Args:
            event: as AWS Lambda gives it to a function.
            seconds: for how long they are ours.

        Raises:
            InvalidOptions: the event is of something else, or of another queue.
            Unsupported: nobody hands over messages of this broker.
        """
        raise Unsupported(
            f"nobody but its own consumers pops from {self!r}; AWS Lambda hands over messages of "
            "SQS, for an instance over SQSBackendFactory"
        )

    async def old_consumers(self) -> dict[str, int]:
        """Consumers of the Python 2 library that hold items: how many, by consumer id.

        Nobody can know whether they are alive. The items of a dead one never come back by
        themselves; see `take_back`. Empty without `HAS_OLD_CONSUMERS`.
        """
        return {}

    async def take_back(self, consumer_id: str) -> int:
        """Give back the items of a consumer of the Python 2 library that you know to be dead.

        Each item goes to the back of the queue and counts one more delivery. If the consumer is
        alive after all, its items run twice.

        Args:
            consumer_id: from `old_consumers`.

        Returns:
            the number of items.

        Raises:
            InvalidOptions: it is not such a consumer, or a heartbeat says that it is alive.
            Unsupported: this broker has no such consumers.
        """
        raise Unsupported(
            f"{self!r} has no consumers of the Python 2 library, so none can be dead; on Redis "
            "old_consumers() lists them (HAS_OLD_CONSUMERS says so)"
        )
