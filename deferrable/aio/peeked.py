"""A call that was seen in its queue, without taking it.

Owns the view of one item: its state, its job, and its call, which is decoded only on request.
"""

from deferrable._codec.serializers import DecodedCall
from deferrable._reading import job_name
from deferrable.aio._engine.instance import Instance
from deferrable.handles import CallState
from deferrable.item import Item

__all__ = ["DescribedCall", "PeekedCall"]


class PeekedCall:
    """A call as it was when `Deferrable.peek` saw it.

    Attributes:
        state: where it was at that moment.
        item: its item.
    """

    __slots__ = ("_instance", "item", "state")

    def __init__(self, instance: Instance, item: Item, state: CallState) -> None:
        self._instance = instance
        self.item = item
        self.state = state

    @property
    def id(self) -> str | None:
        """The call's id, for `Deferrable.call`; None for items of the Python 2 library."""
        item_id = self.item.get("id")
        return item_id if isinstance(item_id, str) else None

    @property
    def job(self) -> str:
        """The name of its job; a phrase if it has none."""
        return job_name(self.item)

    @property
    def call(self) -> DecodedCall:
        """The call, decoded now.

        Raises:
            UnreadableItem: it cannot be decoded, or the instance must not read it.
        """
        self._instance.protection.check(self.item, self._instance.backend.group)
        return self._instance.registry.decode(self.item)

    def __repr__(self) -> str:
        # Without arguments, which have no place in logs.
        return f"<PeekedCall {self.id} of {self.job}, {self.state.status}>"


class DescribedCall(PeekedCall):
    """A call, and how it ended if it has.

    Attributes:
        state: where it was at that moment.
        item: its item; of a call that has ended the fields that were kept; empty if none were.
        ending: what is known of its end: ``value``, ``error``, ``start_time``, ``time``.
    """

    __slots__ = ("ending",)

    def __init__(
        self, instance: Instance, item: Item, state: CallState, ending: Item | None = None
    ) -> None:
        super().__init__(instance, item, state)
        self.ending: Item = {} if ending is None else ending

    @property
    def call(self) -> DecodedCall:
        """The call, decoded now; see `PeekedCall.call`.

        What a result keeps has no signature: that of the result was checked.
        """
        if "status" in self.ending:
            return self._instance.registry.decode(self.item)
        return super().call
