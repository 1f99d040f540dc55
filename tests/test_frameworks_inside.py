"""FastAPI, Starlette and Flask in this process: what requests, lifespans and contexts meet."""

import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import Annotated, Any

import flask
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException

import deferrable
import deferrable.aio
from deferrable.backend import InMemoryBackendFactory
from deferrable.contrib.fastapi import DeferAfter, DeferredCalls
from deferrable.contrib.flask import DeferrableExtension
from deferrable.contrib.starlette import health_routes, workers_beside
from deferrable.errors import BackendError
from deferrable.testing import Faults, deferrals_of
from deferrable.testing.faults import FaultyQueue

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # new versions of Starlette prefer a successor of httpx
    from fastapi.testclient import TestClient

shop = deferrable.aio.Deferrable(
    deferrable.aio.backend.InMemoryBackendFactory(timeout=1).create_backend_for_group("web")
)
ran: list[str] = []


@shop.deferrable
async def welcome(name: str) -> None:
    ran.append(name)


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def names_in(calls: Any) -> list[str]:
    return [each.call.args[0] for each in calls.deferred(welcome)]


# Calls of a request.


def test_call_of_a_dependency_that_ends_is_pushed() -> None:
    async def audited(calls: DeferAfter) -> AsyncIterator[None]:
        yield
        calls.add(welcome, "at its end")

    app = FastAPI()

    # FastAPI 0.121.0 ignores the scope of one that only the route names.
    @app.post("/")
    async def post(
        calls: DeferAfter, audit: Annotated[None, Depends(audited, scope="function")]
    ) -> None:
        calls.add(welcome, "inside")

    with deferrals_of(shop) as calls:
        assert TestClient(app).post("/").status_code == 200
        assert sorted(names_in(calls)) == ["at its end", "inside"]


def test_call_that_is_added_after_the_response_is_an_error_and_not_lost_in_silence() -> None:
    app = FastAPI()

    def add_late(calls: DeferredCalls) -> None:
        calls.add(welcome, "late")

    @app.post("/")
    async def post(calls: DeferAfter, tasks: BackgroundTasks) -> None:
        tasks.add_task(add_late, calls)

    with deferrals_of(shop), pytest.raises(RuntimeError, match=r"await welcome\.later_async"):
        TestClient(app).post("/")


def test_error_of_a_handler_pushes_nothing_of_plain_and_async_handlers() -> None:
    app = FastAPI()

    @app.post("/async")
    async def post_async(calls: DeferAfter) -> None:
        calls.add(welcome, "a")
        raise HTTPException(422)

    @app.post("/plain")
    def post(calls: DeferAfter) -> None:
        calls.add(welcome, "a")
        raise HTTPException(422)

    with deferrals_of(shop) as calls:
        client = TestClient(app)
        assert [client.post(each).status_code for each in ("/async", "/plain")] == [422, 422]
        assert names_in(calls) == []


def test_push_that_fails_is_an_error_of_the_response() -> None:
    app = FastAPI()

    @app.post("/")
    async def post(calls: DeferAfter) -> None:
        calls.add(welcome, "a")

    with deferrals_of(shop):
        faults = Faults()
        faults.fail_before("push")
        shop.backend.queue = FaultyQueue(shop.backend.queue, faults)
        with pytest.raises(BackendError):
            TestClient(app).post("/")


def test_two_requests_do_not_share_their_calls() -> None:
    app = FastAPI()

    @app.post("/{name}")
    async def post(name: str, calls: DeferAfter, again: DeferAfter) -> bool:
        again.add(welcome, name)
        return calls is again

    with deferrals_of(shop) as calls:
        client = TestClient(app)
        assert [client.post(f"/{each}").json() for each in "ab"] == [True, True]
        assert sorted(names_in(calls)) == ["a", "b"]


# Lifespans.


def test_state_of_the_own_lifespan_reaches_requests_and_the_worker_ends_before_it() -> None:
    seen: list[str] = []

    @contextlib.asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        seen.append("begins")
        yield {"pool": "a pool"}
        seen.append(f"ends with {workers_now()} workers")

    def workers_now() -> int:
        from deferrable.contrib.starlette import workers_of

        return len(workers_of())

    app = FastAPI(lifespan=workers_beside(shop, lifespan=own))
    app.router.routes.extend(health_routes())

    async def pool_of(request: Any) -> str:
        return str(request.state.pool)

    from fastapi import Request

    pool_of.__annotations__["request"] = Request

    @app.get("/pool")
    async def get(pool: Annotated[str, Depends(pool_of)]) -> str:
        return pool

    with TestClient(app) as client:
        answers = [client.get("/pool").json(), client.get("/health/ready").status_code]

    assert answers == ["a pool", 200]
    assert seen == ["begins", "ends with 0 workers"]


def test_application_starts_again_on_another_loop() -> None:
    app = FastAPI(lifespan=workers_beside(shop))
    app.router.routes.extend(health_routes())

    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/health/ready").json() == {"is_ready": True, "workers": [True]}
    assert TestClient(app).get("/health/ready").status_code == 503  # its lifespan did not run


# Flask.

plain_shop = deferrable.Deferrable(InMemoryBackendFactory().create_backend_for_group("flask"))


@plain_shop.deferrable
def greet(name: str) -> str:
    flask.g.setdefault("names", []).append(name)
    assert not flask.has_request_context()
    return f"{flask.current_app.config['GREETING']} {' '.join(flask.g.names)}"


@plain_shop.deferrable
async def greet_async(name: str) -> str:
    return f"{flask.current_app.config['GREETING']} {name}"


def application(greeting: str) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config["GREETING"] = greeting
    return app


def test_each_job_of_flask_has_a_new_context_that_is_torn_down() -> None:
    app = application("Hello")
    DeferrableExtension(app, plain_shop)
    torn_down: list[object] = []
    app.teardown_appcontext(torn_down.append)

    with deferrals_of(plain_shop) as calls:
        for name in ("Ada", "Bob"):
            greet.later(name)
        greet_async.later("Eve")
        outcomes = calls.run_all()

    assert [each.result for each in outcomes] == ["Hello Ada", "Hello Bob", "Hello Eve"]
    assert torn_down == [None] * 3


def test_job_in_a_test_of_a_request_has_no_request() -> None:
    app = application("Hello")
    DeferrableExtension(app, plain_shop)

    with deferrals_of(plain_shop, inline=True) as calls, app.test_request_context("/"):
        flask.g.names = ["of the request"]
        greet.later("Ada")
        assert flask.has_request_context()
        assert flask.g.names == ["of the request"]

    assert [each.result for each in calls.outcomes] == ["Hello Ada"]


def test_jobs_have_the_context_of_the_last_application_of_a_factory() -> None:
    extension = DeferrableExtension(None, plain_shop)
    for greeting in ("First", "Second"):
        extension.init_app(application(greeting))

    with deferrals_of(plain_shop) as calls:
        greet.later("Ada")
        (outcome,) = calls.run_all()

    assert outcome.result == "Second Ada"


def test_extension_without_an_instance_says_what_to_give() -> None:
    with pytest.raises(TypeError, match="DeferrableExtension"):
        DeferrableExtension(application("Hello"))
