"""Data that a producer sends with every item, in addition to the call.

Owns the base class that users extend, the check of its namespace, and the field of an item that
holds the encoded values. The rule: only a classic item has a field ``metadata``. A Python 2
consumer decodes that field outside its ``try``; a value that it cannot read would leave the item
in its list of items in flight for ever.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from deferrable._codec.refusals import kind_of
from deferrable.errors import UnreadableItem
from deferrable.item import Item

__all__ = ["MetadataProducerConsumer", "check_namespace", "encoded_metadata", "metadata_field"]

_CLASSIC_FIELD = "metadata"
_FIELD = "encoded_metadata"


def metadata_field(item: Item) -> str:
    """The field in which the producer of `item` puts metadata."""
    return _FIELD if item.get("serializer") is not None else _CLASSIC_FIELD


def encoded_metadata(item: Item) -> dict[Any, Any]:
    """The encoded values of `item` by namespace; empty if it has none.

    ``metadata`` is read from items of every serializer: early versions of this library wrote it.

    Raises:
        UnreadableItem: the field holds something else.
    """
    encoded = item.get(metadata_field(item)) or item.get(_CLASSIC_FIELD) or {}
    if not isinstance(encoded, dict):
        raise UnreadableItem(f"the item's metadata is {kind_of(encoded)}, which is no object")
    return encoded


class MetadataProducerConsumer:
    """Carries a value from the producer to the consumer, such as a correlation id.

    Extend it, set `NAMESPACE`, and register one with an instance on both sides. Both methods may be
    async. The job sees context variables that `consume_metadata` sets.

    Raises:
        ValueError: `NAMESPACE` is None.
    """

    NAMESPACE: ClassVar[str | None] = None

    def __init__(self) -> None:
        if self.NAMESPACE is None:
            raise ValueError(
                f"NAMESPACE must be provided: give {type(self).__name__} a class attribute of "
                "that name, a text unique among the instance's"
            )

    def produce_metadata(self) -> Any:
        """Return the value to send with the item; called by each ``later`` that pushes.

        It may also be called for a debounced call that is then skipped: if one step decides and
        pushes, as with windows and queue in one Redis, the value is needed before.
        """

    def consume_metadata(self, metadata: Any) -> Any:
        """Receive the value of `produce_metadata`, before the job runs.

        Args:
            metadata: the value, or None if the item has none of this namespace.
        """


def check_namespace(
    new: MetadataProducerConsumer, registered: Iterable[MetadataProducerConsumer]
) -> None:
    """Refuse an object without a namespace, or with one that is already in use.

    Raises:
        ValueError: its namespace is not text, or a registered object has the same.
    """
    # Asked here as well, because a subclass's own __init__ may not call the base's.
    if not isinstance(new.NAMESPACE, str):
        raise ValueError(
            f"NAMESPACE must be provided: {type(new).__name__} has {new.NAMESPACE!r:.200}, give it "
            "a text unique among the instance's"
        )
    if any(each.NAMESPACE == new.NAMESPACE for each in registered):
        raise ValueError(f"NAMESPACE {new.NAMESPACE} is already in use")
