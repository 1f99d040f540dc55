"""A FastAPI app with a worker beside it, on the same event loop.

It shows a lifespan that runs the worker, a task that reads its outcomes, and handlers that await
``later_async``. When the server stops, running jobs are given `GRACE_SECONDS`, and what has not
started goes back to the queue. Run it, with a Redis on localhost or at ``$REDIS_URL``::

    cd examples/fastapi_app && uvicorn app:app
    curl -X POST 'http://127.0.0.1:8000/welcome/Ada'
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from jobs import mail, welcome

from deferrable.aio import Worker

GRACE_SECONDS = 10.0

outcomes: deque[str] = deque(maxlen=100)


async def read_outcomes(worker: Worker) -> None:
    async for outcome in worker:  # read them all: until then the worker pops no more
        outcomes.append(f"{outcome.status}: {outcome.result or outcome.error}")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with mail, mail.worker(concurrency=20, grace_seconds=GRACE_SECONDS) as worker:
        app.state.worker = worker
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read_outcomes(worker))
            yield
            worker.stop()  # and the group waits until the last outcome was read


app = FastAPI(lifespan=lifespan)


@app.post("/welcome/{name}", status_code=202)
async def post_welcome(name: str, delay_seconds: float = 0) -> dict[str, str | None]:
    receipt = await welcome.options(delay_seconds=delay_seconds).later_async(name)
    return {"id": receipt.id, "status": receipt.status}


@app.get("/outcomes")
async def get_outcomes() -> list[str]:
    return list(outcomes)


@app.get("/health")
async def get_health(response: Response) -> dict[str, bool]:
    worker: Worker = app.state.worker
    if not worker.health.is_healthy:
        response.status_code = 503
    return {"is_healthy": worker.health.is_healthy}
