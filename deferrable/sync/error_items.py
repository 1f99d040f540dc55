"""Look through an error queue without awaiting. Owns only the list of its verbs."""

from collections.abc import Iterator, Mapping
from typing import Any

from deferrable._codec.serializers import DecodedCall
from deferrable._wrong_api import PlainFor
from deferrable.aio import error_items as awaiting
from deferrable.sync._facade import ClosingFacade, Facade, blocking

__all__ = ["ErrorItem", "ErrorItems"]


class ErrorItem(Facade[awaiting.ErrorItem]):
    """One item of an error queue; see `deferrable.aio.ErrorItem`."""

    requeue = blocking(awaiting.ErrorItem.requeue)
    discard = blocking(awaiting.ErrorItem.discard)

    def __init__(self, core: awaiting.ErrorItem) -> None:
        super().__init__(core)
        self.item = core.item

    @property
    def id(self) -> str | None:
        """The item's id; see `deferrable.aio.ErrorItem.id`."""
        return self._core.id

    @property
    def error(self) -> Mapping[str, Any]:
        """The record of the failure; see `deferrable.aio.ErrorItem.error`."""
        return self._core.error

    @property
    def call(self) -> DecodedCall:
        """The call that failed, decoded now; see `deferrable.aio.ErrorItem.call`."""
        return self._core.call


class ErrorItems(ClosingFacade[awaiting.ErrorItems], PlainFor):
    """An iteration over an error queue; ``for``, once."""

    _next_item = blocking(awaiting.ErrorItems.next_item)

    def next_item(self) -> ErrorItem | None:
        """The next one that was not seen yet; None at the end."""
        core = self._next_item()
        return None if core is None else ErrorItem(core)

    def __iter__(self) -> Iterator[ErrorItem]:
        try:
            while (entry := self.next_item()) is not None:
                yield entry
        finally:
            self.close()
