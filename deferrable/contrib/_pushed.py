"""The receipts of a ``later``, also if a part of it failed."""

from collections.abc import Sequence

from deferrable import BackendError, Deferral, Receipt

__all__ = ["receipts_of"]


def receipts_of(deferral: Deferral, error: BaseException | None) -> Sequence[Receipt]:
    """The receipts of the calls that were pushed or skipped.

    Args:
        error: what ``later`` raised.
    """
    if isinstance(error, BackendError) and error.receipts is not None:
        return [each for each in error.receipts if each is not None]
    return deferral.receipts
