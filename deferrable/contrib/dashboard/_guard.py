"""Who may ask the dashboard, and what browsers may do with its answers.

Owns the headers of every answer, the token and its cookie, the names by which a dashboard is
addressed, and the tokens of forms.

The rules: nothing but the style sheet, the scripts and the page to sign in is answered without the
token. Nothing is changed without a form's token that belongs to the browser's cookie. No page runs
a script that is not a file of this package.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deferrable.contrib.dashboard._site import Settings

__all__ = [
    "FORM_COOKIE",
    "LOCAL_HOSTS",
    "Guard",
    "comes_from_elsewhere",
    "form_token",
    "is_from_our_form",
    "is_token",
    "keep_form_token",
    "let_in",
    "root_of",
]

FORM_COOKIE = "deferrable_form"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Lets requests through to `inner`, or not."""

    def __init__(self, inner: ASGIApp, settings: Settings) -> None:
        self._inner = inner
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self._inner)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if not _is_allowed_host(request.headers, self._settings.allowed_hosts):
            return PlainTextResponse(
                "This dashboard does not answer to the name of this host.", status_code=400
            )
        path = _path_of(request)
        if self._settings.token is None or path.startswith("/static/") or path == "/sign-in":
            return None
        if _knows_token(request, self._settings.token):
            return None
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            asked = f"{path}?{request.url.query}" if request.url.query else path
            query = "" if asked == "/" else "?" + urlencode({"next": asked}, errors="replace")
            return RedirectResponse(f"{root_of(request)}/sign-in{query}", status_code=303)
        return PlainTextResponse(
            "Sign in, or send the token: Authorization: Bearer TOKEN", status_code=401
        )


def root_of(request: Request) -> str:
    """The path at which the dashboard is mounted, without a slash at its end."""
    root: str = request.scope.get("root_path", "")
    # Two slashes would be another host.
    return "/" + root.strip("/") if root.strip("/") else ""


def _path_of(request: Request) -> str:
    path: str = request.scope["path"]
    root: str = request.scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _is_allowed_host(headers: Headers, allowed: tuple[str, ...] | None) -> bool:
    if allowed is None:
        return True
    try:
        host = urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return False
    return host in allowed


def _knows_token(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and is_token(given.strip(), token):
        return True
    shown = request.cookies.get(_token_cookie(token), "")
    return hmac.compare_digest(shown.encode(), _proof(token).encode())


def is_token(given: str, token: str) -> bool:
    """Whether it is the token; how long the answer takes does not tell how much of it fits."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _token_cookie(token: str) -> str:
    """The name of the cookie. Browsers send cookies to all ports of a host, so each dashboard has
    its own.
    """
    digest = hmac.new(token.encode(), b"name of the cookie", hashlib.sha256).hexdigest()
    return f"deferrable_dashboard_{digest[:8]}"


def _proof(token: str) -> str:
    """What the cookie holds: it shows that the visitor knew the token, and is not the token."""
    return hmac.new(token.encode(), b"deferrable dashboard", hashlib.sha256).hexdigest()


def let_in(request: Request, response: Response, token: str) -> None:
    """Have the browser of a visitor who knew the token remember it."""
    _set_cookie(request, response, _token_cookie(token), _proof(token))


def comes_from_elsewhere(request: Request) -> bool:
    """Whether a link of another site led here; False also if the browser does not say."""
    return request.headers.get("sec-fetch-site") == "cross-site"


def form_token(request: Request) -> tuple[str, bool]:
    """The token for the forms of this browser, and whether it is new and needs its cookie."""
    known = request.cookies.get(FORM_COOKIE, "")
    if len(known) == 43 and known.isascii():
        return known, False
    return secrets.token_urlsafe(32), True


def keep_form_token(request: Request, response: Response, token: str) -> None:
    """Set the cookie that the forms' token must equal."""
    _set_cookie(request, response, FORM_COOKIE, token)


def _set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    is_secure = request.url.scheme == "https"
    response.set_cookie(
        name,
        value,
        path=root_of(request) or "/",
        httponly=True,
        # With "strict", a link in a chat or an alert would lead to the page to sign in, and give
        # the browser a new form's token, so that the forms of its other tabs were refused.
        samesite="lax",
        secure=is_secure,
    )


def is_from_our_form(request: Request, given: str) -> bool:
    """Whether a form of this dashboard, in this browser, sent the request."""
    known = request.cookies.get(FORM_COOKIE, "")
    if not known or not hmac.compare_digest(known.encode(), given.encode(errors="replace")):
        return False
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
