"""An instance on an SQS whose time a test moves, and whose requests a proxy counts."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqs_proxy import Proxy
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import SQSBackendFactory
from deferrable.aio.backend.base import Backend
from deferrable.testing import MovingClock

__all__ = ["Broken", "Site", "site_at"]


class Broken(Exception):
    """What a job of a site raises to be retried."""


class Site:
    """One queue, and as many consumers as a test wants.

    Attributes:
        started: the arguments of the jobs, in the order of their starts.
        ended: of those that returned, in the order of their ends.
        failures: how often the job with an argument raises `Broken` from now on.
    """

    def __init__(self, server: SQSServer, proxy: Proxy, group: str, **settings: Any) -> None:
        self.clock = MovingClock()
        self.proxy = proxy
        self._server = server
        self._prefix = f"deferrable_{group.removesuffix('.fifo')}"
        self._group = group
        self._settings = {"wait_time": 0, "clock": self.clock, **settings}
        self.backend = self.another()
        self.instance = Deferrable(self.backend)
        self.started: list[Any] = []
        self.ended: list[Any] = []
        self.failures: dict[Any, int] = {}
        self.before: Callable[[Any], Any] | None = None
        self.options: Mapping[str, Any] = {}

    def another(self) -> Backend:
        """The backend of another consumer."""
        factory = SQSBackendFactory(self._server.connection(self.proxy.url), **self._settings)
        return factory.create_backend_for_group(self._group)

    def job_of(self, instance: Deferrable, **options: Any) -> Any:
        @instance.deferrable(name="job", error_classes=[Broken], **options)
        async def job(value: Any) -> None:
            self.started.append(value)
            if self.before is not None:
                await self.before(value)
            if self.failures.get(value, 0):
                self.failures[value] -= 1
                raise Broken(value)
            self.ended.append(value)

        return job

    def job(self, **options: Any) -> Any:
        return self.job_of(self.instance, **options)

    async def pass_time(self, seconds: float) -> None:
        # A lease ends here before it ends there, as it does in life.
        self.clock.advance(seconds)
        await self._server.pass_time(self._prefix, seconds)

    async def run(self) -> list[str]:
        """Attempt what is there; how each attempt ended."""
        statuses = []
        while (outcome := await self.instance.run_once()) is not None:
            statuses.append(outcome.status)
        return statuses

    async def buried(self) -> list[dict[str, Any]]:
        """What is in the error queue, in its order."""
        return [each.item async for each in self.instance.errors()]


@asynccontextmanager
async def site_at(
    server: SQSServer, proxy: Proxy, group: str, **settings: Any
) -> AsyncIterator[Site]:
    site = Site(server, proxy, group, **settings)
    async with site.backend:
        await site.backend.queue.stats()
        await site.backend.error_queue.stats()
        await site.backend.queue.pop()
        proxy.requests.clear()
        yield site
