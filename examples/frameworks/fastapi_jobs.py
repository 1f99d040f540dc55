"""A FastAPI application with a worker beside it, probes, and the dashboard.

Run it::

    cd examples/frameworks
    export DEFERRABLE_URL=sqlite:///jobs.db
    uvicorn fastapi_jobs:app
    curl -X POST http://127.0.0.1:8000/welcome/Ada
    curl http://127.0.0.1:8000/health/ready
"""

from fastapi import FastAPI, HTTPException

from deferrable.aio import Deferrable, backend
from deferrable.contrib import dashboard
from deferrable.contrib.fastapi import DeferAfter
from deferrable.contrib.starlette import health_routes, workers_beside

shop = Deferrable(backend.from_url().create_backend_for_group("fastapi"))
welcomed: list[str] = []


@shop.deferrable
async def welcome(name: str) -> None:
    welcomed.append(name)


app = FastAPI(lifespan=workers_beside(shop, concurrency=20, grace_seconds=10))
app.router.routes.extend(health_routes())
app.mount("/ops/jobs", dashboard.app({"shop": shop}))


@app.post("/welcome/{name}", status_code=202)
async def post_welcome(name: str, calls: DeferAfter) -> dict[str, str]:
    calls.add(welcome, name)  # pushed when this function has returned, before the response
    if name == "nobody":
        raise HTTPException(422, "say who")  # and not pushed now
    return {"name": name}


@app.get("/welcomed")
async def get_welcomed() -> list[str]:
    return welcomed
