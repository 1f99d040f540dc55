"""A Litestar application with a worker beside it.

Run it::

    cd examples/frameworks
    export DEFERRABLE_URL=sqlite:///jobs.db
    uvicorn litestar_jobs:app
    curl -X POST http://127.0.0.1:8000/welcome/Ada
"""

from litestar import Litestar, get, post

from deferrable.aio import Deferrable, backend
from deferrable.contrib.litestar import WorkersPlugin

shop = Deferrable(backend.from_url().create_backend_for_group("litestar"))
welcomed: list[str] = []


@shop.deferrable
async def welcome(name: str) -> None:
    welcomed.append(name)


@post("/welcome/{name:str}", status_code=202)
async def post_welcome(name: str) -> dict[str, str | None]:
    return {"id": (await welcome.later_async(name)).id}


@get("/welcomed")
async def get_welcomed() -> list[str]:
    return welcomed


app = Litestar(
    route_handlers=[post_welcome, get_welcomed],
    plugins=[WorkersPlugin(shop, concurrency=20, grace_seconds=10)],
)
