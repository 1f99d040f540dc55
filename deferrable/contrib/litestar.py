"""Litestar: a plugin that runs workers beside the application.

Owns the plugin: ``Litestar(plugins=[WorkersPlugin(shop, concurrency=20)])``.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from deferrable._extras import missing_extra
from deferrable.aio import Deferrable
from deferrable.contrib._servers import stopping_with_server

try:
    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.plugins import InitPlugin
except ImportError as error:
    raise missing_extra("deferrable.contrib.litestar", "litestar", error) from error

__all__ = ["WorkersPlugin"]


class WorkersPlugin(InitPlugin):
    """A worker of each instance, on the event loop of the server.

    Args:
        instances: of `deferrable.aio`.
        options: of each worker, as `deferrable.aio.Deferrable.running` takes them.
    """

    def __init__(self, *instances: Deferrable, **options: Any) -> None:
        self._instances = instances
        self._options = options

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the workers to the lifespan; they are in ``app.state.deferrable_workers``."""
        app_config.lifespan = [*(app_config.lifespan or []), self._run]
        return app_config

    @asynccontextmanager
    async def _run(self, app: Litestar) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.deferrable_workers = workers = [
                await stack.enter_async_context(each.running(**self._options))
                for each in self._instances
            ]
            with stopping_with_server(workers):
                yield
