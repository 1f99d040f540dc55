"""Where a test of the command line defers, and how it starts a worker and asks it.

Owns a group of jobs of `cli_app.jobs` in Redis, and requests to a worker's port.
"""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import redis
from commands import Command
from redis_server import unique_group

__all__ = ["MAILS", "STATS", "Place", "ask", "worker"]

STATS, MAILS = "cli_app.jobs:stats", "cli_app.jobs:mails"


class Place:
    """A group of a test's own, and how to defer there."""

    def __init__(self, url: str, folder: Path) -> None:
        self.group = unique_group("cli-")
        self.variables = {"REDIS_URL": url, "GROUP": self.group}
        self.client = redis.Redis.from_url(url)
        self._folder = folder

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def defer(self, job: str, *args: Any, **options: Any) -> str:
        """Defer a call of a job of `cli_app.jobs`, without importing it here."""
        blocking = job in {"send", "block_forever", "block_until", "fail", "reconnect", "die"}
        from deferrable import Deferrable
        from deferrable.backend import DocketsBackendFactory

        factory = DocketsBackendFactory(self.variables["REDIS_URL"])
        group = f"{self.group}-mails" if blocking else self.group
        with Deferrable(factory.create_backend_for_group(group)) as instance:
            function = instance.deferrable(name=f"cli_app.jobs:{job}", **options)(lambda *_: None)
            item_id = function.later(*args).id
            assert item_id is not None
            return item_id

    def waiting(self, is_mails: bool = False) -> int:
        name = f"deferrable_{self.group}{'-mails' if is_mails else ''}"
        return int(self.client.llen(f"queue.{name}"))  # type: ignore[arg-type]

    def errors(self, is_mails: bool = False) -> list[dict[str, Any]]:
        name = f"deferrable_{self.group}{'-mails' if is_mails else ''}"
        values: Any = self.client.hvals(f"queue.{name}.errors")
        return [json.loads(value) for value in values]

    def attempts_of_waiting(self, is_mails: bool = False) -> list[int]:
        name = f"deferrable_{self.group}{'-mails' if is_mails else ''}"
        values: Any = self.client.lrange(f"queue.{name}", 0, -1)
        items = [json.loads(value)["item"] for value in values]
        return [(json.loads(item) if isinstance(item, str) else item)["attempts"] for item in items]

    def close(self) -> None:
        self.client.close()


def worker(place: Place, *arguments: str) -> Command:
    return Command("worker", *arguments, variables=place.variables)


def ask(url: str, method: str = "GET") -> tuple[int, Any]:
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")
