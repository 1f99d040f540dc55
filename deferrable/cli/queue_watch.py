"""The queues and workers that an exporter watches.

Owns the last readings, how workers are asked for their counts, and the numbers for autoscalers.
"""

import asyncio
import logging
import socket
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from deferrable._codec.refusals import describe
from deferrable.cli.loading import Named
from deferrable.contrib._queues import LastMinute, QueueReading, WorkerCounts, read_queues
from deferrable.errors import BackendError

__all__ = ["QueueWatch"]

_logger = logging.getLogger("deferrable.cli")

_PAGE_SECONDS = 5.0
_MOST_PAGE_BYTES = 10_000_000


class QueueWatch:
    """Reads the queues of `named` and asks their workers.

    Args:
        workers: the ``http://`` URLs of their metrics. A host may have many addresses, such as
            those of a headless service; each is one worker.

    Attributes:
        readings: the last ones; empty before the first.
    """

    def __init__(self, named: Sequence[Named], workers: Sequence[str] = ()) -> None:
        # Needs the extra.
        from deferrable.contrib._worker_pages import WorkerSum, counts_in

        self.named = named
        self.readings: list[QueueReading] = []
        self._worker_urls = workers
        self._workers: WorkerCounts | None = None
        self._sum = WorkerSum()
        self._counts_in = counts_in
        self._history = LastMinute()
        self._failing: set[str] = set()

    async def read(self) -> None:
        """Read everything once."""
        readings, workers = await asyncio.gather(
            read_queues(each.instance for each in self.named), self._ask_workers()
        )
        # What the log says is served already.
        self.readings, self._workers = readings, workers
        for reading in readings:
            self._log_change(reading.name, reading.error)
        if not any(reading.error for reading in readings):
            self._history.add(readings, workers)

    def _log_change(self, name: str, error: str | None) -> None:
        """Log a failure once, and its end once."""
        if error is not None and name not in self._failing:
            _logger.error("%s cannot be read, the exporter goes on: %s", name, error)
            self._failing.add(name)
        elif error is None and name in self._failing:
            _logger.warning("%s can be read again", name)
            self._failing.discard(name)

    def obstacles(self) -> list[str]:
        """Why there are no numbers, one line for each reason; empty: there are."""
        if not self.readings:
            return ["nothing was read yet"]
        return [f"{each.name}: {each.error}" for each in self.readings if each.error is not None]

    def numbers(self) -> Mapping[str, Any]:
        """The numbers for an autoscaler; what is not known is None."""
        readings, workers, history = self.readings, self._workers, self._history
        ages = [each.oldest_age_seconds for each in readings]
        known_ages = [age for age in ages if age is not None]
        return {
            "backlog": sum(each.items.get("available", 0) for each in readings),
            "delayed": sum(each.items.get("delayed", 0) for each in readings),
            "in_flight": sum(each.items.get("in_flight", 0) for each in readings),
            "errors": sum(each.items.get("errors", 0) for each in readings),
            "oldest_age_seconds": max(known_ages) if known_ages else None,
            "change_per_second": history.change_per_second,
            "arrivals_per_second": history.arrivals_per_second,
            "completions_per_second": history.completions_per_second,
            "slots": None if workers is None else workers.slots,
            "running": None if workers is None else workers.running,
            "age_seconds": max(0.0, time.time() - min(each.time for each in readings)),
            "queues": {
                each.name: {
                    **each.items,
                    "oldest_age_seconds": each.oldest_age_seconds,
                    "is_paused": each.is_paused,
                }
                for each in readings
            },
        }

    async def close(self) -> None:
        """Close the instances."""
        for each in self.named:
            with suppress(BackendError):
                await each.instance.close()

    async def _ask_workers(self) -> WorkerCounts | None:
        """What the workers report together; None: there are none, or none can be asked."""
        if not self._worker_urls:
            return None
        found: dict[str, WorkerCounts] = {}
        for pages in await asyncio.gather(*map(self._ask_host, self._worker_urls)):
            found.update(pages)
        return self._sum.add(found) if found else None

    async def _ask_host(self, url: str) -> dict[str, WorkerCounts]:
        # Not the URL alone: that may be an address, which fails and recovers apart from its host.
        host = f"the host of {url}"
        try:
            addresses = await asyncio.to_thread(_addresses_of, url)
        except OSError as error:
            self._log_change(host, str(error))
            return {}
        self._log_change(host, None)
        counts = await asyncio.gather(*(self._ask(url, each) for each in addresses))
        return {
            address: count
            for address, count in zip(addresses, counts, strict=True)
            if count is not None
        }

    async def _ask(self, url: str, address: str) -> WorkerCounts | None:
        try:
            counts = self._counts_in(await asyncio.to_thread(_page, url, address))
        except HTTPException as error:
            # Its text is a piece of what was received.
            self._log_change(address, f"this is no complete answer of HTTP: {describe(error)}")
            return None
        except (OSError, ValueError) as error:
            self._log_change(address, str(error))
            return None
        self._log_change(address, None)
        return counts


def _addresses_of(url: str) -> list[str]:
    """``http://10.0.0.1:8081/metrics`` for each address of the URL's host."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    port = parts.port or 80
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    hosts = dict.fromkeys(
        f"[{address[0]}]" if family == socket.AF_INET6 else f"{address[0]}"
        for family, _, _, _, address in found
    )
    return [f"http://{host}:{port}{parts.path or '/metrics'}" for host in hosts]


def _page(url: str, address: str) -> str:
    host = urlsplit(url).netloc
    request = urllib.request.Request(address, headers={"Host": host})  # noqa: S310  # http only
    with urllib.request.urlopen(request, timeout=_PAGE_SECONDS) as response:  # noqa: S310
        page: bytes = response.read(_MOST_PAGE_BYTES)
    return page.decode()
