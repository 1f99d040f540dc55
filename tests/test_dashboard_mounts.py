"""The dashboard below a path of other applications, each served by a real server."""

import itertools
import re
import signal
from html import unescape
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
from commands import PythonProcess

SHOP = """
    from deferrable import Deferrable
    from deferrable.backend import InMemoryBackendFactory
    from deferrable.contrib import dashboard

    shop = Deferrable(InMemoryBackendFactory().create_backend_for_group("shop"))

    @shop.deferrable(name="resize")
    def resize(name):
        pass

    resize.options(delay_seconds=600).later("photo.png")
    jobs = dashboard.app({"shop": shop}, allow_actions=True)
"""
STARLETTE = """
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def own(request):
        return PlainTextResponse("mine")

    web = Starlette(routes=[Route("/own", own), Mount("/ops/jobs", jobs)])
"""
FASTAPI = """
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    web = FastAPI()

    @web.get("/own", response_class=PlainTextResponse)
    async def own() -> str:
        return "mine"

    web.mount("/ops/jobs", jobs)
"""
DJANGO = """
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="only of this test",
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
    )
    urlpatterns = [path("own", lambda request: HttpResponse("mine"))]

    from django.core.asgi import get_asgi_application

    django = get_asgi_application()

    async def web(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/ops/jobs/"):
            root = scope.get("root_path", "") + "/ops/jobs"
            await jobs({**scope, "root_path": root}, receive, send)
        elif scope["type"] == "http":
            await django(scope, receive, send)
"""


@pytest.mark.parametrize(
    "host", [STARLETTE, FASTAPI, DJANGO], ids=["starlette", "fastapi", "django"]
)
def test_the_dashboard_works_below_a_path_of_another_application(host: str, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(dedent(SHOP) + dedent(host))
    options = ["-m", "uvicorn", "web:web", "--port", "0", "--lifespan", "auto"]

    with PythonProcess(options, variables={}, folder=tmp_path) as server:
        server.wait_for("Uvicorn running on")
        address = re.search(r"http://127\.0\.0\.1:\d+", server.text)
        assert address is not None
        with httpx.Client(base_url=address.group(), trust_env=False) as client:
            assert client.get("/own").text == "mine"
            check_pages(client)
            check_forms(client)


def test_an_open_page_does_not_hold_up_a_server_that_stops(tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(dedent(SHOP) + dedent(STARLETTE))

    with PythonProcess(
        ["-m", "uvicorn", "web:web", "--port", "0"], variables={}, folder=tmp_path
    ) as server:
        server.wait_for("Uvicorn running on")
        address = re.search(r"http://127\.0\.0\.1:\d+", server.text)
        assert address is not None
        with httpx.Client(base_url=address.group(), trust_env=False, timeout=10) as client:
            with client.stream("GET", "/ops/jobs/live/") as live:
                lines = live.iter_lines()
                assert next(lines) == "retry: 3000"
                server.send(signal.SIGTERM)
                assert len(list(itertools.islice(lines, 1000))) < 1000, "it does not end"
            server.wait_for("Application shutdown complete")


def check_pages(client: httpx.Client) -> None:
    """Everything that the overview names is there, below the path, and no script is inline."""
    overview = client.get("/ops/jobs/")
    assert overview.status_code == 200
    assert "default-src 'none'; script-src 'self'" in overview.headers["content-security-policy"]
    cookie = overview.headers["set-cookie"]
    assert "Path=/ops/jobs" in cookie
    assert "SameSite=lax" in cookie
    addresses = {*map(unescape, re.findall(r'(?:href|src)="([^"#]+)', overview.text))}
    assert all(each.startswith("/ops/jobs/") for each in addresses), addresses
    assert len(addresses) > 5
    for each in addresses:
        answer = client.get(each)
        assert (each, answer.status_code) == (each, 200)
        assert "content-security-policy" in answer.headers
    assert "resize" in client.get("/ops/jobs/queue", params={"queue": "shop"}).text
    with client.stream("GET", "/ops/jobs/live/") as live:
        assert live.headers["content-type"].startswith("text/event-stream")
        assert next(live.iter_lines())


def check_forms(client: httpx.Client) -> None:
    """A form is taken with the token of this browser only, and leads back below the path."""
    page = client.get("/ops/jobs/queue", params={"queue": "shop"}).text
    assert 'action="/ops/jobs/queue/pause"' in page
    form = {"queue": "shop", "do": "pause"}

    forged = client.post("/ops/jobs/queue/pause", data={**form, "form_token": "forged"})
    token = client.cookies["deferrable_form"]
    paused = client.post("/ops/jobs/queue/pause", data={**form, "form_token": token})

    assert forged.status_code == 403
    assert paused.status_code == 303
    assert paused.headers["location"].startswith("/ops/jobs/queue?")
    assert "paused" in client.get(paused.headers["location"]).text
