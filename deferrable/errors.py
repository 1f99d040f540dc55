"""The errors of this library, in one tree.

Owns what users catch. A broker's own error is the ``__cause__``, attached where it was caught.

    DeferrableError
    ├── InvalidOptions (also ValueError)
    ├── SerializationError
    │   ├── UnserializableCall
    │   │   └── ArgumentMismatch (also TypeError)
    │   └── UnreadableItem
    ├── BackendError
    │   ├── BackendUnavailable
    │   ├── LeaseLost
    │   ├── Unsupported
    │   ├── ItemTooLarge
    │   └── DuplicateCall
    ├── JobFailed
    ├── ResultExpired
    ├── CalledFromEventLoop (also RuntimeError)
    └── WrongApi (also TypeError, AttributeError)

And one warning: BlocksEventLoop (a RuntimeWarning).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deferrable.outcome import Receipt

__all__ = [
    "DeferrableError",
    "InvalidOptions",
    "SerializationError",
    "UnserializableCall",
    "ArgumentMismatch",
    "UnreadableItem",
    "BackendError",
    "BackendUnavailable",
    "LeaseLost",
    "Unsupported",
    "ItemTooLarge",
    "DuplicateCall",
    "JobFailed",
    "ResultExpired",
    "CalledFromEventLoop",
    "WrongApi",
    "BlocksEventLoop",
]


class DeferrableError(Exception):
    """Root of all errors that this library raises on purpose."""


class InvalidOptions(DeferrableError, ValueError):
    """An option is out of range, or two options contradict each other. Nothing was pushed."""


class SerializationError(DeferrableError):
    """Something cannot be written to an item, or read from it."""


class UnserializableCall(SerializationError):
    """Raised by ``later`` for a call that no other process could run. Nothing was pushed."""


class ArgumentMismatch(UnserializableCall, TypeError):
    """Raised by ``later`` for arguments that the job's function rejects. Nothing was pushed."""


class UnreadableItem(SerializationError):
    """A consumer got an item that it cannot decode.

    The item goes to the error queue unchanged; its ``error`` field records this error.
    """


class BackendError(DeferrableError):
    """The broker refused or failed; ``__cause__`` is the broker client's own error.

    Attributes:
        receipts: if ``later_many`` raised it, a receipt for each pushed call and None for each
            other call; otherwise None.
    """

    receipts: "Sequence[Receipt | None] | None" = None


class BackendUnavailable(BackendError):
    """The broker could not be reached, or its answer was lost. Try again later.

    After this error of a push, the item may or may not have arrived.
    """


class LeaseLost(BackendError):
    """The item no longer belongs to this consumer: it was settled already, or its lease ended.

    Nothing was settled by the call that raised this.
    """


class Unsupported(BackendError):
    """This queue does not support the request; one of its capability flags says so."""


class ItemTooLarge(BackendError):
    """The item is over the size limit of the queue, or of its broker. It was not stored."""


class DuplicateCall(BackendError):
    """A pending item holds the unique key of this one, which was not pushed.

    ``later`` does not raise it: its receipt says ``duplicate``.

    Attributes:
        holder_id: the id of the item that holds the key.
    """

    def __init__(self, holder_id: str) -> None:
        super().__init__(holder_id)
        self.holder_id = holder_id

    def __str__(self) -> str:
        return (
            f"call {self.holder_id} is pending and holds the same unique key; nothing was pushed. "
            "Try again when that call has ended, or cancel it"
        )


class JobFailed(DeferrableError):
    """Raised where the result of a call is asked for, and the call has no result.

    Attributes:
        call_id: of the call.
        status: ``errored``, ``expired`` (its ttl had passed) or ``cancelled``.
        error_type: the name of the class of the job's error; empty if it raised none.
        error_text: its text.
        traceback: where it was raised, as text.
    """

    def __init__(
        self,
        call_id: str,
        status: str,
        error_type: str = "",
        error_text: str = "",
        traceback: str = "",
    ) -> None:
        super().__init__(call_id, status, error_type, error_text, traceback)
        self.call_id = call_id
        self.status = status
        self.error_type = error_type
        self.error_text = error_text
        self.traceback = traceback

    def __str__(self) -> str:
        failure = f": {self.error_type}: {self.error_text}" if self.error_type else ""
        return f"call {self.call_id} is {self.status}{failure}"


class ResultExpired(DeferrableError):
    """The result of a call is not kept any more, or was never kept."""


class CalledFromEventLoop(DeferrableError, RuntimeError):
    """A blocking call was made on the one thread where it would wait for itself.

    That is the thread of the portal (the event loop that serves blocking calls). Await the
    coroutine that the message names instead.
    """


class WrongApi(DeferrableError, TypeError, AttributeError):
    """``with``, ``for`` or ``await`` on an object of the wrong API (blocking or asyncio).

    Also raised if `deferrable.aio` is awaited on an event loop that is not asyncio's.

    The message says what to write. It is also an `AttributeError`, so that `hasattr` finds no
    ``__enter__`` that does not work.
    """


class BlocksEventLoop(RuntimeWarning):
    """A blocking call was made in a thread whose event loop is running.

    The call works, and nothing else runs on that loop until it returns. The message says what to
    await instead.
    """
