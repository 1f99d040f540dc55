"""The application: addresses, pages, streams and forms.

Owns `app`, and how views, templates, forms and the guard go together.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from deferrable import DeferrableError
from deferrable.contrib.dashboard._actions import DOING, Doing, Refused, fields_of, who
from deferrable.contrib.dashboard._errors import ErrorFilter, failed_time, look_at_errors
from deferrable.contrib.dashboard._guard import (
    Guard,
    comes_from_elsewhere,
    form_token,
    is_token,
    keep_form_token,
    let_in,
    root_of,
)
from deferrable.contrib.dashboard._live import MOST_STREAMS, stream
from deferrable.contrib.dashboard._rendering import page, part
from deferrable.contrib.dashboard._settling import ACTIONS, Works
from deferrable.contrib.dashboard._site import Settings, Site, shown_instances
from deferrable.contrib.dashboard._views import VIEWS, NotFound, Seen, View

__all__ = ["app"]

_STATIC = Path(__file__).parent / "static"
_LEAST_TOKEN = 16
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def app(
    instances: Mapping[str, Any] | Sequence[Any] | Any,
    *,
    allow_actions: bool = False,
    token: str | None = None,
    allowed_hosts: Sequence[str] | None = None,
    interval_seconds: float = 3.0,
    paid_interval_seconds: float = 60.0,
    counts_calls: bool = True,
    user_of: Callable[[Any], str] | None = None,
) -> Starlette:
    """An ASGI application that shows the queues of instances, to mount in your own or to serve.

    Without a `token` it lets everybody in: mount it behind your own authentication.

    Args:
        instances: one, a list, or a dict with the names to show. Instances of either API.
        allow_actions: visitors may requeue, discard, cancel, pause and run now.
        token: a secret of at least 16 characters that visitors must know.
        allowed_hosts: the names by which the dashboard may be addressed; None: any.
        interval_seconds: the time between two readings of a queue while somebody looks.
        paid_interval_seconds: the same for SQS, where each reading costs two requests.
        counts_calls: count what this process itself pushes and runs. False: show only what the
            queues tell.
        user_of: returns the name of the visitor who made a Starlette request, for the log of
            actions; None: the address is logged.

    Raises:
        ValueError: the token is too short, an interval is not positive, or two instances have the
            same name.
        TypeError: something is not an instance.
    """
    if token is not None and len(token) < _LEAST_TOKEN:
        raise ValueError(
            f"the token must have at least {_LEAST_TOKEN} characters, got {len(token)}"
        )
    if not interval_seconds > 0 or not paid_interval_seconds > 0:
        raise ValueError(
            f"intervals must be over 0 seconds, got {interval_seconds!r} for interval_seconds and "
            f"{paid_interval_seconds!r} for paid_interval_seconds"
        )
    settings = Settings(
        allow_actions,
        token,
        None if allowed_hosts is None else tuple(allowed_hosts),
        interval_seconds,
        paid_interval_seconds,
        user_of,
    )
    site = Site(shown_instances(instances, counts_calls=counts_calls), settings)
    pages = _Pages(site)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await site.start()
        try:
            yield
        finally:
            await site.stop()

    made = Starlette(
        routes=pages.routes(), middleware=[Middleware(Guard, settings=settings)], lifespan=lifespan
    )
    made.state.site = site
    return made


class _Pages:
    """The addresses of one dashboard."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._works = Works()

    def routes(self) -> list[Route | Mount]:
        """All addresses."""
        routes: list[Route | Mount] = [
            Mount("/static", _Static(directory=_STATIC)),
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/errors/confirm", self._confirm),
        ]
        for name, view in VIEWS.items():
            path = "/" if name == "overview" else f"/{name}"
            routes += [
                Route(path, self._page(name, view)),
                Route(f"/live{path}", self._live(name, view)),
            ]
        routes += [
            Route(path, self._form(doing), methods=["POST"]) for path, doing in DOING.items()
        ]
        return routes

    def _seen(self, params: Mapping[str, str]) -> Seen:
        return Seen(self._site, self._works, params, self._site.now())

    def _values(self, request: Request, name: str, token: str) -> dict[str, Any]:
        site = self._site
        return {
            "root": root_of(request),
            "view": name,
            "names": list(site.shown),
            "params": dict(request.query_params),
            "live": f"{root_of(request)}/live{_path_of(name)}?{request.url.query}",
            "said": request.query_params.get("said", "") if site.settings.allow_actions else "",
            "may_act": site.settings.allow_actions,
            "has_token": site.settings.token is not None,
            "form_token": token,
            "now": site.now(),
        }

    def _page(self, name: str, view: View) -> Endpoint:
        async def show(request: Request) -> Response:
            await self._site.start()
            token, is_new = form_token(request)
            values = self._values(request, name, token)
            params: Mapping[str, str] = request.query_params
            if comes_from_elsewhere(request):
                params = _without_look(params)
            try:
                values |= await view(self._seen(params))
            except NotFound as error:
                return self._message(request, 404, str(error))
            response = _html(page(f"{name}.html", values))
            if is_new:
                keep_form_token(request, response, token)
            return response

        return show

    def _live(self, name: str, view: View) -> Endpoint:
        async def follow(request: Request) -> Response:
            await self._site.start()
            # To look by taking costs requests each time, so only a visitor does it.
            params = _without_look(request.query_params)
            if self._site.watchers >= MOST_STREAMS:
                return self._message(request, 503, "Too many pages are open.")
            token, _ = form_token(request)

            async def render() -> str:
                values = self._values(request, name, token)
                try:
                    values |= await view(self._seen(params))
                except NotFound as error:
                    return part("message.html", values | {"message": str(error), "title": ""})
                return part(f"{name}.html", values)

            return StreamingResponse(
                stream(self._site, render),
                media_type="text/event-stream",
                headers={"x-accel-buffering": "no"},
            )

        return follow

    def _form(self, doing: Doing) -> Endpoint:
        async def do(request: Request) -> Response:
            if not self._site.settings.allow_actions:
                return self._message(
                    request, 403, "This dashboard only shows. Start it with --allow-actions."
                )
            await self._site.start()
            user = who(request, self._site.settings.user_of)
            try:
                address = await doing(self._seen(await fields_of(request)), user)
            except Refused as error:
                return self._message(request, error.status, str(error))
            except NotFound as error:
                return self._message(request, 404, str(error))
            except DeferrableError as error:
                return self._message(request, 409, str(error))
            return RedirectResponse(f"{root_of(request)}{address}", status_code=303)

        return do

    async def _confirm(self, request: Request) -> Response:
        """Ask before errors are requeued or discarded, with their number."""
        await self._site.start()
        params = request.query_params
        wanted, action = ErrorFilter.of(params), params.get("do", "")
        if not self._site.settings.allow_actions:
            return self._message(request, 403, "This dashboard only shows.")
        try:
            shown = self._seen(params).shown
        except NotFound as error:
            return self._message(request, 404, str(error))
        if action not in ACTIONS:
            return self._message(request, 404, f"There is no action called {action!r}.")
        entries, are_more, problem = await look_at_errors(shown, wanted)
        if problem:
            return self._message(request, 409, problem)
        token, is_new = form_token(request)
        values = self._values(request, "errors", token) | {
            "shown": shown,
            "action": action,
            "wanted": wanted,
            "count": _count(shown, entries, are_more, wanted),
            # Errors come with the clocks of other machines.
            "until": max([self._site.now(), *(failed_time(each) or 0.0 for each in entries)]),
        }
        response = _html(page("confirm.html", values))
        if is_new:
            keep_form_token(request, response, token)
        return response

    async def _sign_in(self, request: Request) -> Response:
        token, is_new = form_token(request)
        values = self._values(request, "sign-in", token) | {"problem": ""}
        values["next"] = request.query_params.get("next", "")
        expected = self._site.settings.token
        if expected is None:
            return RedirectResponse(f"{root_of(request)}/", status_code=303)
        if request.method == "POST":
            try:
                fields = await fields_of(request)
            except Refused as error:
                return self._message(request, error.status, str(error))
            if is_token(fields.get("token", ""), expected):
                address = _page_address(fields.get("next", ""))
                answer = RedirectResponse(f"{root_of(request)}{address}", status_code=303)
                let_in(request, answer, expected)
                return answer
            await asyncio.sleep(0.5)  # so that guessing is slow
            values |= {"problem": "This is not the token.", "next": fields.get("next", "")}
        response = _html(page("sign-in.html", values), 401 if values["problem"] else 200)
        if is_new:
            keep_form_token(request, response, token)
        return response

    def _message(self, request: Request, status: int, message: str) -> Response:
        values = self._values(request, "message", "") | {"message": message, "title": str(status)}
        return _html(page("message.html", values), status)


class _Static(StaticFiles):
    """The style sheet and scripts, which browsers may keep for an hour."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "public, max-age=3600"
        return response


def _path_of(name: str) -> str:
    return "/" if name == "overview" else f"/{name}"


def _page_address(asked: str) -> str:
    """The address of a page of ours, from the path; that of the overview if it is none."""
    path, _, query = asked.partition("?")
    # Anything else may lead to another host.
    if path not in map(_path_of, VIEWS):
        return "/"
    return f"{path}?{query}" if query else path


def _without_look(params: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in params.items() if key != "look"}


def _count(shown: Any, entries: Sequence[Any], are_more: bool, wanted: ErrorFilter) -> str:
    """How many are meant, in words."""
    reading = shown.history.last
    known = None if reading is None else reading.items.get("errors")
    if (are_more or not shown.can_look_at_errors) and wanted.is_all and known is not None:
        return f"about {known:,}"
    if are_more:
        return f"{len(entries):,} or more"
    return f"{len(entries):,}" if shown.can_look_at_errors else "all matching"


def _html(text: str, status: int = 200) -> Response:
    # An item may hold halves of characters, which no page can.
    return Response(text.encode(errors="replace"), status, media_type="text/html; charset=utf-8")
