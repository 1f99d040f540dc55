"""The dashboard under the permissions of Django's admin.

Owns who may see it. The rule: a visitor is who Django's session says, and is asked for at each
request, with database connections that are closed before the page is made. Staff whom the admin
lets in may look; superusers, or those with a permission that the site names, may also act.
"""

import io
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any, TypeAlias, cast
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.auth import aget_user
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, reverse, set_script_prefix

from deferrable.contrib.dashboard import app as dashboard_app
from deferrable.contrib.django._queue_names import backends
from deferrable.contrib.django._running import own_connections

__all__ = ["with_dashboard"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def with_dashboard(
    application: Application, path: str = "/admin/deferrable", *, allow_actions: bool | str = False
) -> Application:
    """An ASGI application that serves the dashboard below a path, and everything else as before.

    Staff may look whom ``has_permission`` of the admin's site lets in. Others are sent to the login
    of the admin.

    Args:
        application: of Django, from ``get_asgi_application()``.
        path: where the dashboard is.
        allow_actions: superusers may requeue, discard, cancel, pause and run now. The name of a
            permission of Django, such as ``"shop.change_order"``: staff who have it may, too.

    Raises:
        ValueError: the permission is not written with its app.
    """
    if isinstance(allow_actions, str) and not all(allow_actions.partition(".")):
        raise ValueError(
            f"allow_actions={allow_actions!r} is no permission of Django; write its app and its "
            "codename, such as 'shop.change_order', or True for superusers only"
        )
    return _Mounted(application, "/" + path.strip("/"), allow_actions)


class _Mounted:
    def __init__(self, application: Application, path: str, allow_actions: bool | str) -> None:
        self._application = application
        self._path = path
        self._allow_actions = allow_actions
        self._pages: dict[bool, Application] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root, inner = _split_path(scope)
        if scope["type"] != "http" or not f"{inner}/".startswith(f"{self._path}/"):
            await self._application(scope, receive, send)
            return
        async with own_connections():
            request = await _request_of(scope)
            user = request.user
            may_look = await _may_look(request)
            may_act = may_look and await self._may_act(user)
        if not may_look:
            await _redirect(send, f"{_login_path(root)}?next={quote(_full_path(scope))}")
            return
        scope = {**scope, "path": f"{root}{inner}", "root_path": f"{root}{self._path}"}
        scope["state"] = {**scope.get("state", {}), "user": user.get_username()}
        await self._pages_for(acts=may_act)(scope, receive, send)

    async def _may_act(self, user: Any) -> bool:
        if isinstance(self._allow_actions, str):
            return bool(await sync_to_async(user.has_perm)(self._allow_actions))
        # A user model that the admin accepts need not have superusers.
        return self._allow_actions and bool(getattr(user, "is_superuser", False))

    def _pages_for(self, *, acts: bool) -> Application:
        """The pages for those who may act, or not; made on first use, because apps load before."""
        if acts not in self._pages:
            self._pages[acts] = dashboard_app(
                _instances(),
                allow_actions=acts,
                user_of=lambda request: str(request.scope["state"]["user"]),
            )
        return self._pages[acts]


def _instances() -> dict[str, Any]:
    return {
        name if alias == "default" else f"{alias}:{name}": instance
        for alias, backend in backends().items()
        for name, instance in backend.site.instances.items()
    }


async def _request_of(scope: Scope) -> Any:
    """A request with its session, and with the user that the session belongs to."""
    request = cast(Any, ASGIRequest)(dict(scope), io.BytesIO())
    engine = import_module(settings.SESSION_ENGINE)
    request.session = engine.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    request.user = await aget_user(request)
    return request


async def _may_look(request: Any) -> bool:
    """Whether this is staff whom the admin lets in; a site may ask for more than that."""
    if not (request.user.is_active and request.user.is_staff):
        return False
    if not apps.is_installed("django.contrib.admin"):
        return True
    from django.contrib.admin import site  # without the app it cannot be imported

    return bool(await sync_to_async(site.has_permission)(request))


def _split_path(scope: Scope) -> tuple[str, str]:
    """Where the whole site is mounted, as Django finds it, and the path within the site."""
    root, path = get_script_prefix(scope).rstrip("/"), scope.get("path", "")
    # Some servers leave the root out of the path.
    return root, path.removeprefix(root) if path.startswith(f"{root}/") else path


def _full_path(scope: Scope) -> str:
    """What the browser asked for."""
    asked = "".join(_split_path(scope))
    search = scope.get("query_string", b"").decode("latin-1")
    return f"{asked}?{search}" if search else asked


def _login_path(root: str) -> str:
    set_script_prefix(f"{root}/")
    try:
        return str(reverse("admin:login"))
    except NoReverseMatch:
        return str(resolve_url(settings.LOGIN_URL))


async def _redirect(send: Send, location: str) -> None:
    headers = [(b"location", location.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
