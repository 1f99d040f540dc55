"""Starlette and FastAPI: a worker beside the application, and routes for its health.

Owns the lifespan and the routes. The rule: an application that answers while its worker cannot
reach the queue is not ready.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

from deferrable._extras import missing_extra
from deferrable.aio import Deferrable, Worker
from deferrable.contrib._servers import stopping_with_server

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
except ImportError as error:
    raise missing_extra("deferrable.contrib.starlette", "starlette", error) from error

__all__ = ["Lifespan", "health_routes", "workers_beside", "workers_of"]

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]

_workers: list[Worker] = []


def workers_beside(
    *instances: Deferrable, lifespan: Lifespan | None = None, **options: Any
) -> Lifespan:
    """A lifespan for an application, with a worker of each instance on its event loop.

    Write ``FastAPI(lifespan=workers_beside(shop, concurrency=20))``. The workers begin after the
    application's own lifespan and end before it. Under uvicorn they stop as soon as the server gets
    its signal, also while connections are still open.

    Args:
        instances: of `deferrable.aio`.
        lifespan: the application's own.
        options: of each worker, as `deferrable.aio.Deferrable.running` takes them.
    """

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            state = None if lifespan is None else await stack.enter_async_context(lifespan(app))
            workers = [
                await stack.enter_async_context(each.running(**options)) for each in instances
            ]
            _workers.extend(workers)
            try:
                with stopping_with_server(workers):
                    yield state
            finally:
                for worker in workers:
                    _workers.remove(worker)

    return run


def workers_of() -> list[Worker]:
    """The workers that run beside applications of this process."""
    return list(_workers)


def health_routes(path: str = "/health") -> list[Route]:
    """Routes for probes: ``PATH/live`` and ``PATH/ready``; no broker is asked.

    Use them as ``Starlette(routes=[*health_routes(), ...])``, or
    ``app.router.routes.extend(health_routes())``.
    """
    path = "/" + path.strip("/")
    return [Route(f"{path}/live", _live), Route(f"{path}/ready", _ready)]


async def _live(_: Request) -> JSONResponse:
    return JSONResponse({"is_live": True})


async def _ready(_: Request) -> JSONResponse:
    workers = [worker.health.is_healthy for worker in _workers]
    is_ready = bool(workers) and all(workers)
    return JSONResponse({"is_ready": is_ready, "workers": workers}, 200 if is_ready else 503)
