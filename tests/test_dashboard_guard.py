"""Who may ask the dashboard, and that nothing hostile becomes a part of its pages."""

import random
import re
import signal
from collections.abc import AsyncIterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import PythonProcess, call_command
from dashboard_place import BASE, Visitor, visit
from processes import run_program
from redis_server import unique_group
from sizes import sized

from deferrable._extras import install_command
from deferrable.aio import Deferrable
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.contrib.dashboard import _views, app

pytestmark = pytest.mark.anyio

TOKEN = "a secret that is long"
FORMS = ("/errors/settle", "/call/change", "/schedules/run", "/queue/pause")
PAGES = ("/", "/queue", "/errors", "/schedules", "/job", "/call", "/errors/confirm", "/live/")


@pytest.fixture
def shop() -> Deferrable:
    backend = InMemoryBackendFactory().create_backend_for_group(unique_group())
    return Deferrable(backend)


@pytest.fixture
async def visitor(shop: Deferrable) -> AsyncIterator[Visitor]:
    async with visit({"shop": shop}, allow_actions=True) as made:
        yield made


async def test_every_answer_forbids_scripts_in_pages(visitor: Visitor) -> None:
    for path in ("/", "/queue?queue=no", "/no", "/static/style.css"):
        answer = await visitor.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_pages_have_no_inline_script_and_no_style(visitor: Visitor) -> None:
    page = await visitor.see("/")

    assert not re.search(r"<script(?! src=)|<style| style=| on\w+=|hx-on|javascript:", page)
    assert "http" not in re.sub(r"http-|http://localhost", "", page)


async def test_dashboard_only_shows_by_default(shop: Deferrable) -> None:
    async with visit({"shop": shop}) as visitor:
        for path in FORMS:
            assert (await visitor.send(path, queue="shop", do="requeue")).status_code == 403
        assert "form" not in await visitor.see("/schedules")


@pytest.mark.parametrize("path", FORMS)
async def test_form_of_another_page_is_refused(visitor: Visitor, path: str) -> None:
    await visitor.see("/")
    token = visitor.client.cookies["deferrable_form"]
    send = visitor.client.post

    assert (await send(path, data={"queue": "shop"})).status_code == 403
    assert (await send(path, data={"queue": "shop", "form_token": "x"})).status_code == 403
    fields = {"queue": "shop", "form_token": token}
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert (await send(path, data=fields, headers=headers)).status_code == 403
    too_large = {**fields, "text": "x" * 70_000}
    assert (await send(path, data=too_large)).status_code == 413
    assert (await send(path, content=b"\xff\xfe=1")).status_code == 400


async def test_form_is_never_sent_by_a_link(visitor: Visitor) -> None:
    for path in FORMS:
        assert (await visitor.get(path, queue="shop", do="discard")).status_code == 405


async def test_cookies_are_not_sent_from_other_sites_nor_read_by_scripts(visitor: Visitor) -> None:
    cookie = (await visitor.get("/")).headers["set-cookie"].lower()

    assert "samesite=lax" in cookie
    assert "httponly" in cookie


async def test_nothing_is_shown_without_the_token(shop: Deferrable) -> None:
    async with visit({"shop": shop}, token=TOKEN, allow_actions=True) as visitor:
        for path in PAGES:
            assert (await visitor.get(path)).status_code == 401
        for path in FORMS:
            assert (await visitor.client.post(path)).status_code == 401
        browser = {"accept": "text/html"}
        answer = await visitor.client.get("/", headers=browser)
        assert answer.headers["location"] == "/sign-in"
        for wrong in ("Bearer nope", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xe9"):
            headers = {"authorization": wrong.encode("latin-1")}
            assert (await visitor.client.get("/", headers=headers)).status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert (await visitor.client.get("/", headers=headers)).status_code == 200  # type: ignore[arg-type]


async def test_visitor_signs_in_with_the_token(shop: Deferrable) -> None:
    async with visit({"shop": shop}, token=TOKEN) as visitor:
        await visitor.see("/sign-in")
        assert (await visitor.client.post("/sign-in", data={"token": TOKEN})).status_code == 403
        form_token = visitor.client.cookies["deferrable_form"]
        fields = {"token": TOKEN, "form_token": form_token}
        answer = await visitor.client.post("/sign-in", data=fields)

        assert answer.status_code == 303
        assert TOKEN not in answer.headers["set-cookie"]
        assert "shop" in await visitor.see("/")


async def test_visitor_comes_to_the_page_that_was_asked_for(shop: Deferrable) -> None:
    async with visit({"shop": shop}, token=TOKEN) as visitor:
        browser = {"accept": "text/html"}
        shared = "/errors?queue=shop&text=%C3%A9+%26+co"
        answer = await visitor.client.get(shared, headers=browser)
        page = (await visitor.client.get(answer.headers["location"])).text
        (asked,) = re.findall(r'name="next" value="([^"]*)"', page)

        fields = {
            "form_token": visitor.client.cookies["deferrable_form"],
            "token": TOKEN,
            "next": unescape(asked),
        }
        answer = await visitor.client.post("/sign-in", data=fields)

        assert answer.headers["location"] == shared
        for wrong in ("//evil.example", "https://evil.example/", "/\\evil.example", "/errors/x"):
            answer = await visitor.client.post("/sign-in", data=fields | {"next": wrong})
            assert answer.headers["location"] == "/"


async def test_link_of_another_site_does_not_take_errors(
    shop: Deferrable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def view(seen_by: Any) -> dict[str, Any]:
        seen.append(dict(seen_by.params))
        raise _views.NotFound("nothing")

    monkeypatch.setitem(_views.VIEWS, "errors", view)
    async with visit({"shop": shop}) as visitor:
        for site in ("same-origin", "none", "cross-site"):
            headers = {"sec-fetch-site": site}
            await visitor.client.get("/errors?queue=shop&look=yes", headers=headers)

    assert [each.get("look") for each in seen] == ["yes", "yes", None]


async def test_two_dashboards_of_one_host_do_not_sign_each_other_out(shop: Deferrable) -> None:
    first, second = app(shop, token=TOKEN), app(shop, token=f"{TOKEN}!", counts_calls=False)
    visitor, other = Visitor(first), Visitor(second)
    for each, token in ((visitor, TOKEN), (other, f"{TOKEN}!")):
        each.client.cookies = visitor.client.cookies  # as a browser, whatever the ports
        await each.see("/sign-in")
        fields = {"token": token, "form_token": each.client.cookies["deferrable_form"]}
        assert (await each.client.post("/sign-in", data=fields)).status_code == 303

    assert (await visitor.get("/")).status_code == 200
    assert (await other.get("/")).status_code == 200
    await first.state.site.stop()
    await second.state.site.stop()


async def test_a_wrong_token_does_not_sign_in(shop: Deferrable) -> None:
    async with visit({"shop": shop}, token=TOKEN) as visitor:
        await visitor.see("/sign-in")
        fields = {"token": "wrong", "form_token": visitor.client.cookies["deferrable_form"]}

        assert (await visitor.client.post("/sign-in", data=fields)).status_code == 401
        assert (await visitor.get("/")).status_code == 401


async def test_name_of_another_host_is_refused(shop: Deferrable) -> None:
    async with visit({"shop": shop}, allowed_hosts=("localhost", "::1")) as visitor:
        for host, status in (
            ("localhost:8321", 200),
            ("[::1]:8321", 200),
            ("evil.example", 400),
            ("localhost.evil.example", 400),
            ("[", 400),
        ):
            answer = await visitor.client.get("/", headers={"host": host})
            assert answer.status_code == status, host


async def test_every_link_stays_below_the_path_of_a_mount(shop: Deferrable) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    @shop.deferrable(name="job")
    async def job() -> None: ...

    await job.later_async()
    site = Starlette(routes=[Mount("/ops/jobs", app({"shop": shop}, allow_actions=True))])
    async with Visitor(site).client as client:
        for path in ("/", "/queue?queue=shop", "/errors?queue=shop", "/schedules"):
            page = (await client.get(f"/ops/jobs{path}")).text
            links = re.findall(r'(?:href|src|action|hx-get|sse-connect)="([^"#]+)', page)
            assert links
            assert all(link.startswith("/ops/jobs/") for link in links), links
        for path in ("/static/style.css", "/static/htmx.min.js", "/static/sse.min.js"):
            assert (await client.get(f"/ops/jobs{path}")).status_code == 200
        cookies = (await client.get("/ops/jobs/")).headers.get("set-cookie", "path=/ops/jobs;")
        assert "path=/ops/jobs;" in cookies.lower()


async def test_root_path_of_a_proxy_is_no_other_host(shop: Deferrable) -> None:
    visitor = Visitor(app({"shop": shop}), root_path="//evil.example")

    async with visitor.client:
        page = (await visitor.client.get(f"{BASE}//evil.example/")).text

    assert "//evil.example" not in page.replace(BASE, "")


HOSTILE = [
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'\"><svg/onload=alert(1)>"),
    *("</pre><script>", "{{ 7 * 7 }}", "{% raw %}", "javascript:alert(1)", "\u202e\u0000\x1b[31m"),
    *(
        "]]><!--",
        "\ud800",
        "&lt;b&gt;",
        "' hx-on:click='alert(1)",
        "\r\ndata: <b>x</b>\n\nevent: x",
    ),
    *("\u2028<iframe src=//evil.example>", '<a href="data:text/html,x">', "`${alert(1)}`"),
]
TAGS = set(
    """
    html head meta title link script body a header div svg circle path nav span main p section
    h1 h2
    dl dt dd table thead tbody tr th td form input label select option button figure figcaption
    b pre
    code datalist noscript progress polygon polyline
    """.split()  # noqa: SIM905  # fewer quotes
)
ATTRIBUTES = re.compile(
    r"(lang|charset|name|content|href|rel|type|src|defer|class|id|tabindex|role|hidden|for|method|"
    r"action|value|title|scope|colspan|list|selected|max|min|autocomplete|required|autofocus|"
    r"viewbox|cx|cy|r|d|points|preserveaspectratio|aria-[a-z]+|hx-[a-z-]+|sse-[a-z]+)"
)


class Strict(HTMLParser):
    """Notes every tag and attribute that no template has."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.wrong.append(tag)
        for name, value in attrs:
            address = name in ("href", "src", "action") and not (value or "").startswith(("/", "#"))
            if not ATTRIBUTES.fullmatch(name) or name.startswith("hx-on") or address:
                self.wrong.append(f"{tag} {name}={value}")
        if tag == "script" and not dict(attrs).get("src"):
            self.wrong.append("a script in the page")


def hostile_text(chance: random.Random) -> str:
    pieces = chance.choices([*HOSTILE, *"<>&\"'/ =-", "x"], k=chance.randint(1, 4))
    return "".join(pieces)


def hostile_item(chance: random.Random, number: int) -> dict[str, Any]:
    text = hostile_text
    error = {
        "error_type": text(chance),
        "error_text": text(chance),
        "traceback": text(chance),
        "hostname": text(chance),
        "id": f"{text(chance)}{number}",
        "ts": chance.choice([1.0, "x", None, 1e308, -1e300, 2**70]),
        "reason": text(chance),
    }
    return {
        "id": chance.choice([f"{number}{text(chance)}", None, 5, [text(chance)]]),
        "serializer": "json",
        "method": text(chance),
        "args": [text(chance)],
        "kwargs": {text(chance): text(chance)},
        "attempts": chance.choice([1, "x", text(chance), 2**70, None]),
        "max_attempts": chance.choice([text(chance), 5, None]),
        "first_push_time": chance.choice([1.0, text(chance), None, 1e308, 2**70]),
        "last_push_time": chance.choice([1.0, text(chance)]),
        "schedule": text(chance),
        "error": chance.choice([error, error, error, text(chance), None]),
    }


def check(page: str) -> None:
    strict = Strict()
    strict.feed(page)
    strict.close()
    assert not strict.wrong, strict.wrong


@pytest.mark.parametrize("part", range(sized(1, 20)))
async def test_hostile_items_never_become_markup(shop: Deferrable, part: int) -> None:
    chance = random.Random(part)
    for number in range(500):
        item = hostile_item(chance, number)
        await shop.backend.error_queue.push(item)
        await shop.backend.queue.push(item)

    async with visit({"shop": shop, "<b>'\"": _other()}, allow_actions=True) as visitor:
        for path in ("/", "/schedules"):
            check(await visitor.see(path))
        for start in range(0, 500, 100):
            for path in ("/errors", "/queue"):
                check(await visitor.see(path, queue="shop", start=str(start)))


@pytest.mark.parametrize("path", ["/queue", "/errors", "/job", "/call", "/errors/confirm"])
async def test_hostile_address_never_becomes_markup(visitor: Visitor, path: str) -> None:
    for text in HOSTILE:
        plain = text.encode(errors="replace").decode()
        for name in ("queue", "text", "job", "type", "id", "state", "start", "said", "do"):
            answer = await visitor.get(path, **{"queue": "shop", name: plain})
            assert answer.status_code in (200, 404), (path, name, answer.text)
            check(answer.text)


async def test_page_of_a_hostile_call_holds_its_texts_only(shop: Deferrable) -> None:
    chance = random.Random(16)
    items = [{**hostile_item(chance, number), "id": f"id-{number}"} for number in range(100)]
    for item in items:
        await shop.backend.error_queue.push({**item, "error": {"error_type": hostile_text(chance)}})

    async with visit({"shop": shop}, allow_actions=True) as visitor:
        for item in items:
            check(await visitor.see("/call", queue="shop", id=item["id"], arguments="show"))


def _other() -> Deferrable:
    return Deferrable(InMemoryBackendFactory().create_backend_for_group(unique_group()))


def test_command_refuses_to_be_open_to_other_machines() -> None:
    done = call_command("dashboard", "cli_app.jobs:stats", "--host", "0.0.0.0", variables={})

    assert done.returncode == 2
    assert "DEFERRABLE_DASHBOARD_TOKEN" in done.stderr


@pytest.mark.parametrize("missing", ["jinja2", "starlette"])
def test_missing_extra_is_named(missing: str) -> None:
    (message,) = run_program(
        f"""
        import sys
        sys.modules[{missing!r}] = None
        try:
            from deferrable.contrib.dashboard import app
        except ImportError as error:
            print(error)
        """
    )

    assert install_command("dashboard") in message


def test_short_token_is_refused(shop: Deferrable) -> None:
    with pytest.raises(ValueError, match="at least 16 characters, got 5"):
        app(shop, token="short")


def test_something_else_than_an_instance_is_refused() -> None:
    with pytest.raises(TypeError, match="got int"):
        app({"shop": 3})


def test_two_instances_of_one_name_are_refused(shop: Deferrable) -> None:
    with pytest.raises(ValueError, match="different names"):
        app([shop, shop])


def test_command_shows_the_log_of_actions(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from deferrable import Deferrable, backend\n"
        "jobs = backend.from_url('sqlite:///jobs.db').create_backend_for_group('shop')\n"
        "shop = Deferrable(jobs)\n"
    )
    program = (
        "import logging\n"
        "import deferrable.cli.dashboard as command\n"
        "def serve(*_): logging.getLogger('deferrable.dashboard').info('requeue on %r', 'shop')\n"
        "command._parts = lambda: (lambda *_, **options: None, serve)\n"
        "command.dashboard(['app:shop', '--port', '0'])\n"
    )

    with PythonProcess(["-c", program], variables={}, folder=tmp_path) as process:
        assert process.end() == 0, process.text

    assert "requeue on 'shop'" in process.text


def test_address_that_the_command_prints_answers_without_the_proxy_too(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from deferrable import Deferrable, backend\n"
        "jobs = backend.from_url('sqlite:///jobs.db').create_backend_for_group('shop')\n"
        "shop = Deferrable(jobs)\n"
    )
    options = ["--port", "0", "--behind-login", "--root-path", "/ops/jobs"]
    command = ["-m", "deferrable", "dashboard", "app:shop", *options]

    with PythonProcess(command, variables={}, folder=tmp_path) as process:
        process.wait_for("dashboard on ")
        line = next(each for each in process.text.splitlines() if each.startswith("dashboard on"))
        address, _, behind = line.removeprefix("dashboard on ").partition(", ")
        status = httpx.get(address).status_code
        process.send(signal.SIGTERM)

    assert (status, behind) == (200, "for a proxy that shows it at /ops/jobs/")
