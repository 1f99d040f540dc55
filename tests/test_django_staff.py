"""The dashboard under Django's admin: who may look, and who may act."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import django_place
import httpx
import pytest
from asgiref.sync import sync_to_async
from dashboard_place import Visitor
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client, override_settings
from django_app import tasks
from django_app.models import Clerk
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


def visit(
    user: Any,
    seeing: Callable[[Visitor], Awaitable[Any]],
    allow_actions: bool | str = True,
    made: Any = None,
) -> Any:
    """What a visitor finds who is logged in as `user`."""
    made = made or with_dashboard(get_asgi_application(), PATH, allow_actions=allow_actions)

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


def test_staff_with_the_permission_that_the_site_names_act_and_others_look(
    shop: Deferrable,
) -> None:
    eve, bob = person("eve", is_staff=True), person("bob", is_staff=True)
    eve.user_permissions.add(Permission.objects.get(codename="change_user"))

    refused = visit(bob, send_all_forms, allow_actions="auth.change_user")
    answers = visit(eve, send_all_forms, allow_actions="auth.change_user")

    assert [each.status_code for each in refused] == [403] * 4
    assert [each.status_code for each in answers[:3]] == [200] * 3, answers[0].text
    assert shop.is_paused() is True


def test_permission_without_its_app_is_refused() -> None:
    with pytest.raises(ValueError, match="allow_actions='change_user' is no permission"):
        with_dashboard(get_asgi_application(), PATH, allow_actions="change_user")


@pytest.mark.parametrize(("allow_actions", "status"), [(True, 403), ("shop.change_order", 200)])
def test_users_of_a_model_without_superusers_look_and_may_have_the_permission(
    shop: Deferrable, allow_actions: bool | str, status: int
) -> None:
    with override_settings(AUTH_USER_MODEL="django_app.Clerk"):
        if Clerk._meta.db_table not in connection.introspection.table_names():
            with connection.schema_editor() as editor:
                editor.create_model(Clerk)
        clerk, _ = Clerk.objects.get_or_create(name="eve")

        answers = visit(clerk, send_all_forms, allow_actions=allow_actions)

    assert answers[0].status_code == status


def test_connection_that_the_database_has_closed_is_not_kept_for_the_next_visit(
    shop: Deferrable,
) -> None:
    def end_connections() -> int:
        opened = [each for each in connections.all() if each.connection is not None]
        for each in opened:
            each.connection.close()
        return len(opened)

    async def look(visitor: Visitor) -> tuple[int, int]:
        await visitor.see("/")
        ended = await sync_to_async(end_connections)()
        return ended, (await visitor.get("/")).status_code

    assert visit(person("eve", is_staff=True), look) == (0, 200)


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


@pytest.mark.parametrize("has_root_in_path", [True, False])
def test_dashboard_of_a_site_that_is_mounted_below_a_path_is_found(
    shop: Deferrable, has_root_in_path: bool
) -> None:
    made = with_dashboard(get_asgi_application(), PATH)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        path = f"/site{scope['path']}" if has_root_in_path else scope["path"]
        await made({**scope, "root_path": "/site", "path": path}, receive, send)

    answer = visit(
        person("eve", is_staff=True), lambda visitor: visitor.get("/schedules"), made=mounted
    )
    with override_settings(LOGIN_URL="enter"):
        login = visit(None, lambda visitor: visitor.get("/errors", queue="mail"), made=mounted)

    assert answer.status_code == 200
    assert f'href="/site{PATH}/static/style.css"' in answer.text
    assert login.headers["location"] == f"/site/enter?next=/site{PATH}/errors%3Fqueue%3Dmail"


def test_staff_whom_the_admin_keeps_out_are_sent_to_its_login(
    shop: Deferrable, monkeypatch: pytest.MonkeyPatch
) -> None:
    eve, bob = (person(name, is_staff=True, is_superuser=True) for name in ("eve", "bob"))
    with override_settings(
        INSTALLED_APPS=[*settings.INSTALLED_APPS, "django.contrib.admin.apps.SimpleAdminConfig"]
    ):
        from django.contrib import admin

        monkeypatch.setattr(
            admin.site,
            "has_permission",
            lambda request: request.user.username == "eve" and User.objects.count() == 2,
        )
        statuses = [visit(user, look).status_code for user in (eve, bob)]

    assert statuses == [200, 302]


async def look(visitor: Visitor) -> httpx.Response:
    return await visitor.get("/")


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
