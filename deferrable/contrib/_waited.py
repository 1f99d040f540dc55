"""How long an item has waited for its run."""

from deferrable.item import Item

__all__ = ["waited_seconds"]


def waited_seconds(item: Item, now: float) -> float | None:
    """How long ago the item became available; None: it does not say when."""
    moments = [
        moment
        for moment in (item.get("due_time"), item.get("last_push_time"))
        if isinstance(moment, int | float)
    ]
    return max(0.0, now - max(moments)) if moments else None
