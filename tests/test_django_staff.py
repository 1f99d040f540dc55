"""The dashboard under Django's admin: who may look, and who may act."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import django_place
import httpx
import pytest
from dashboard_place import Visitor
from django.conf import settings
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django_app import tasks
from django_place import tasks_in

from deferrable import Deferrable
from deferrable.contrib.django import _site, instance_of, periodic, with_dashboard

PATH = "/admin/deferrable"


@pytest.fixture(scope="module", autouse=True)
def _migrated() -> None:
    django_place.make_tables()
    call_command("migrate", verbosity=0)


@pytest.fixture(autouse=True)
def _users() -> Iterator[None]:
    User.objects.all().delete()
    yield
    connections.close_all()


@pytest.fixture
def shop() -> Iterator[Deferrable]:
    """An instance with one error and one schedule."""
    periodic(every_seconds=3600)(tasks.add)
    try:
        with tasks_in("memory://", broker={"wait_time": 0}):
            instance = instance_of()
            tasks.fail.enqueue()
            instance.run_once()
            yield instance
    finally:
        _site._schedules.clear()


def visit(user: User | None, seeing: Callable[[Visitor], Awaitable[Any]]) -> Any:
    """What a visitor finds who is logged in as `user`."""
    made = with_dashboard(get_asgi_application(), PATH, allow_actions=True)

    async def go() -> Any:
        visitor = Visitor(made)
        visitor.root_path = PATH
        async with visitor.client:
            if cookie is not None:
                visitor.client.cookies.set(settings.SESSION_COOKIE_NAME, cookie)
            return await seeing(visitor)

    cookie = None
    if user is not None:
        client = Client()
        client.force_login(user)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    return asyncio.run(go())


def person(name: str, **rights: bool) -> User:
    return User.objects.create_user(name, **rights)


async def send_all_forms(visitor: Visitor) -> list[httpx.Response]:
    (schedule,) = instance_of().schedules()
    return [
        await visitor.send("/errors/settle", queue="default", do="requeue"),
        await visitor.send("/schedules/run", queue="default", schedule=schedule.name),
        await visitor.send("/queue/pause", queue="default", do="pause"),
        await visitor.send("/call/change", queue="default", do="cancel", id="x"),
    ]


def test_staff_look_at_errors_and_schedules_and_find_no_forms(shop: Deferrable) -> None:
    async def look(visitor: Visitor) -> list[str]:
        paths = [("/", {}), ("/errors", {"queue": "default"}), ("/schedules", {})]
        return [await visitor.see(path, **params) for path, params in paths]

    overview, errors, schedules = visit(person("eve", is_staff=True), look)

    assert "default" in overview
    assert "DoesNotExist" in errors
    assert "django_app.tasks:add" in schedules
    assert 'method="post"' not in overview + errors + schedules
    assert "/errors/confirm" not in errors


def test_staff_who_send_a_form_are_refused_and_nothing_changes(shop: Deferrable) -> None:
    answers = visit(person("eve", is_staff=True), send_all_forms)

    assert [each.status_code for each in answers] == [403] * 4
    assert shop.is_paused() is False
    assert shop.backend.queue.stats()["available"] == 0
    assert len(list(shop.errors())) == 1


def test_superuser_acts_and_the_log_names_them(
    shop: Deferrable, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deferrable.dashboard")

    answers = visit(person("ada", is_staff=True, is_superuser=True), send_all_forms)

    assert [each.status_code for each in answers[:3]] == [200] * 3, answers[0].text
    assert shop.is_paused() is True
    assert shop.backend.queue.stats()["available"] == 2  # the error, and the tick
    assert "ada: requeue 1 error, queue default" in caplog.text


def test_form_from_elsewhere_is_refused(shop: Deferrable) -> None:
    async def send(visitor: Visitor) -> httpx.Response:
        await visitor.see("/")
        return await visitor.client.post(
            f"{PATH}/errors/settle", data={"queue": "default", "do": "requeue"}
        )

    answer = visit(person("ada", is_staff=True, is_superuser=True), send)

    assert answer.status_code == 403
    assert shop.backend.queue.stats()["available"] == 0


@pytest.mark.parametrize(
    "rights",
    [None, {}, {"is_staff": True, "is_active": False}, {"is_superuser": True}],
    ids=["nobody", "customer", "former staff", "superuser who is no staff"],
)
@pytest.mark.parametrize("path", ["/", "/errors", "/live/", "/static/style.css"])
def test_others_are_sent_to_the_login(
    shop: Deferrable, rights: dict[str, bool] | None, path: str
) -> None:
    user = None if rights is None else person("bob", **rights)

    answer = visit(user, lambda visitor: visitor.get(path))

    assert answer.status_code == 302
    assert answer.headers["location"].endswith(f"?next={PATH}{path}")


def test_rights_that_are_taken_away_end_at_the_next_request(shop: Deferrable) -> None:
    user = person("eve", is_staff=True)

    async def look(visitor: Visitor) -> list[int]:
        first = await visitor.get("/")
        await User.objects.filter(pk=user.pk).aupdate(is_staff=False)
        return [first.status_code, (await visitor.get("/")).status_code]

    assert visit(user, look) == [200, 302]


def test_path_that_only_begins_alike_is_the_sites_own(shop: Deferrable) -> None:
    made = with_dashboard(get_asgi_application(), PATH)

    async def go() -> int:
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get(f"{PATH}-old")).status_code

    assert asyncio.run(go()) == 404
