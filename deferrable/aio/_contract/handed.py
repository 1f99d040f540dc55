"""Items that somebody else has popped, and will complete.

Owns what such an item is: AWS Lambda receives messages, hands them to a function, and deletes
those that the function does not report as failed.
"""

from collections.abc import Callable
from typing import NamedTuple

from deferrable.aio._contract.popping import Popped

__all__ = ["Handed"]


class Handed(NamedTuple):
    """One message that was handed over.

    Attributes:
        name: by which its failure is reported.
        popped: the item in it; None: there was none, and it is dealt with already.
        is_done: whether it may be deleted. It may not as long as nobody has completed the item.
        order_key: that of its envelope, which a message without an item has as well.
    """

    name: str
    popped: Popped | None
    is_done: Callable[[], bool]
    order_key: str | None = None
