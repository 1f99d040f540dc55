"""What a broker holds of unique keys, seen directly, while nobody changes it."""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from attacks.unique_children import GROUP
from deferrable.aio.backend.dockets._wire import Keys

__all__ = ["Look", "look_for"]


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes:
        items: how many items of each key there are that hold it to their end.
        ids: their ids.
        holders: the id of the item that is recorded as the holder of each key.
    """

    items: Counter[str]
    ids: dict[str, set[str]]
    holders: dict[str, str]


def look_for(url: str) -> Look:
    """A look at the broker at `url`."""
    holders: dict[str, str] = {}
    if url.startswith("sqlite"):
        items = list(_in_file(url.removeprefix("sqlite:///"), holders))
    else:
        items = list(_in_redis(url, holders))
    ids: dict[str, set[str]] = defaultdict(set)
    for item in items:
        ids[item["unique_key"]].add(item["id"])
    until_the_end = [item["unique_key"] for item in items if "unique_until" not in item]
    return Look(Counter(until_the_end), ids, holders)


def _in_file(path: str, holders: dict[str, str]) -> Iterator[Any]:
    connection = sqlite3.connect(path)
    if not connection.execute("PRAGMA table_info(deferrable_items)").fetchall():
        return  # all were killed before they had pushed anything
    rows = connection.execute(
        "SELECT text, unique_key FROM deferrable_items WHERE queue = "
        "(SELECT id FROM deferrable_queues WHERE name = ?)",
        (f"deferrable_{GROUP}",),
    ).fetchall()
    connection.close()
    for text, key in rows:
        item = json.loads(text)
        if key is not None:
            holders[key] = item["id"]
        yield item


def _in_redis(url: str, holders: dict[str, str]) -> Iterator[Any]:
    client, keys = redis.Redis.from_url(url), Keys(f"deferrable_{GROUP}")
    for key, record in client.hgetall(keys.unique).items():
        holders[key.decode()] = record.decode().split(" ", 2)[2]
    lists = [keys.queue, *client.scan_iter(f"{keys.queue}.*.working")]
    raws = [raw for name in lists for raw in client.lrange(name, 0, -1)]
    for raw in [*raws, *client.hvals(keys.payload)]:
        yield json.loads(raw)["item"]
    client.close()
