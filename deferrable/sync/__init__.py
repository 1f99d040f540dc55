"""The face that blocks; bare ``deferrable`` hands on the same names. It defines nothing."""

from typing import TYPE_CHECKING

from deferrable._lazy import lazy_names

if TYPE_CHECKING:
    from deferrable.sync.backend import Backend, BackendFactory
    from deferrable.sync.deferrable import Deferrable
    from deferrable.sync.error_items import ErrorItem, ErrorItems
    from deferrable.sync.queue import Queue

__all__ = ["Backend", "BackendFactory", "Deferrable", "ErrorItem", "ErrorItems", "Queue"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Backend": "deferrable.sync.backend",
        "BackendFactory": "deferrable.sync.backend",
        "Deferrable": "deferrable.sync.deferrable",
        "ErrorItem": "deferrable.sync.error_items",
        "ErrorItems": "deferrable.sync.error_items",
        "Queue": "deferrable.sync.queue",
    },
)
