"""The dashboard in a real browser; skipped where there is no Chromium or no Playwright."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT

sys.path.insert(0, str(ROOT / "docs"))
from dashboard_pictures import VIEWS, Served, find_chromium, served

from deferrable.contrib.dashboard import _live

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def place() -> Iterator[Served]:
    with served(allow_actions=True, interval_seconds=0.2) as made:
        yield made


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(browser: Any, place: Served) -> Iterator[Any]:
    with browser.new_context(base_url=place.url) as context:
        yield watched(context.new_page())


def watched(page: Any) -> Any:
    """A page that notes what the browser complains about."""
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "console",
        lambda line: line.type == "error" and page.complaints.append(line.text),
    )
    return page


def test_number_moves_without_reloading(page: Any, place: Served) -> None:
    page.goto(VIEWS["queue"])
    page.evaluate("window.isSame = true")
    sync_api.expect(page.locator("#available")).to_have_text("18")

    for number in range(100):
        place.do(place.shop.send_invoice.later_async(1000 + number))

    sync_api.expect(page.locator("#available")).to_have_text("118", timeout=60_000)
    assert page.evaluate("window.isSame")
    assert page.complaints == []


def test_page_stays_up_to_date_where_streams_end_after_a_while(
    page: Any, place: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under servers that cannot be asked whether they are to stop."""
    monkeypatch.setattr(_live, "_LONGEST_SECONDS", 0.3)
    opened: list[Any] = []
    page.on("request", lambda each: opened.append(each) if "/live/" in each.url else None)
    page.goto(VIEWS["queue"])
    page.evaluate("""
        const note = document.getElementById("offline");
        window.wasShown = false;
        new MutationObserver(() => { window.wasShown ||= !note.hidden })
            .observe(note, { attributes: true });
    """)
    while len(opened) < 4:
        page.wait_for_timeout(50)

    place.do(place.shop.send_invoice.later_async(1000))

    sync_api.expect(page.locator("#available")).to_have_text("19", timeout=60_000)
    assert not page.evaluate("window.wasShown")


def test_page_that_is_opened_behind_others_holds_no_connection(browser: Any, place: Served) -> None:
    """A browser opens six connections to one server. Each stream is one."""
    site = place.made.state.site
    with browser.new_context(base_url=place.url) as context:
        page = context.new_page()
        page.goto("/")
        while site.watchers != 1:
            page.wait_for_timeout(50)
        context.add_init_script(
            "Object.defineProperty(document, 'hidden', { get: () => !window.isSeen });"
        )
        behind = context.new_page()
        behind.goto("/")
        behind.wait_for_timeout(1000)
        assert site.watchers == 1

        behind.evaluate(
            "window.isSeen = true; document.dispatchEvent(new Event('visibilitychange'))"
        )

        while site.watchers != 2:
            behind.wait_for_timeout(50)


def test_link_of_another_site_finds_the_visitor_signed_in(browser: Any) -> None:
    token = "a secret of the team"
    with served(token=token) as place, browser.new_context() as context:
        page = context.new_page()
        page.goto(place.url)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button").click()
        page.wait_for_url(f"{place.url}/")
        form = context.cookies(place.url)

        # Another site for the browser: the names are not the same.
        other = "https://chat.example/"
        page.route(
            other,
            lambda route: route.fulfill(
                content_type="text/html", body=f'<a href="{place.url}{VIEWS["queue"]}">see</a>'
            ),
        )
        page.goto(other)
        page.get_by_role("link").click()

        page.wait_for_url(f"{place.url}{VIEWS['queue']}")
        assert context.cookies(place.url) == form


def test_lost_connection_is_shown(page: Any, place: Served) -> None:
    page.goto(VIEWS["queue"])
    sync_api.expect(page.locator("#offline")).to_be_hidden()

    place.close()

    sync_api.expect(page.locator("#offline")).to_be_visible(timeout=60_000)


def test_filter_changes_the_list_and_the_address(page: Any) -> None:
    page.goto(VIEWS["queue"])

    page.get_by_label("State").select_option("delayed")

    sync_api.expect(page.locator("#calls")).to_have_text("5 calls", timeout=60_000)
    sync_api.expect(page).to_have_url(re.compile("state=delayed"))
    page.reload()
    sync_api.expect(page.locator("#calls")).to_have_text("5 calls")
    assert page.complaints == []


def test_errors_of_a_group_are_requeued_after_a_question(page: Any) -> None:
    page.goto(VIEWS["errors"])
    page.get_by_role("link", name="Requeue 7 of PaymentDeclined").click()
    sync_api.expect(page.get_by_role("heading")).to_have_text("Requeue 7 errors?")

    page.get_by_role("button", name="Requeue 7").click()

    sync_api.expect(page.get_by_role("status").last).to_contain_text("Requeued 7 of 7.")
    sync_api.expect(page.locator("#groups")).to_have_text("2 errors")
    assert page.complaints == []


def test_page_is_used_with_the_keyboard_alone(page: Any) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.locator("#e1").focus()

    page.keyboard.press("Enter")

    sync_api.expect(page).to_have_url(re.compile("/errors"))


def test_focus_stays_when_the_page_changes(page: Any, place: Served) -> None:
    page.goto("/")
    page.locator("#q1").focus()

    place.do(place.shop.send_invoice.later_async(1))

    sync_api.expect(page.locator(".figures dd").first).to_have_text("26", timeout=60_000)
    assert page.evaluate("document.activeElement.id") == "q1"


def test_phone_shows_no_page_wider_than_itself(browser: Any, place: Served) -> None:
    with browser.new_context(
        base_url=place.url, viewport={"width": 360, "height": 740}, is_mobile=True
    ) as context:
        page = context.new_page()
        for address in VIEWS.values():
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, address


def test_the_overview_shows_workers_and_its_table_of_queues_fits_a_phone(
    browser: Any, place: Served
) -> None:
    with browser.new_context(
        base_url=place.url, viewport={"width": 390, "height": 780}, is_mobile=True
    ) as context:
        page = context.new_page()
        page.goto(VIEWS["overview"])
        queues, workers = page.locator(".scroll").all()

        assert "jobs-2" in workers.inner_text()
        assert queues.evaluate("box => box.scrollWidth <= box.clientWidth")


def test_nothing_hinders_people_with_other_senses(browser: Any, place: Served, theme: str) -> None:
    axe_package = pytest.importorskip("axe_playwright_python")
    axe = Path(axe_package.__file__).with_name("axe.min.js").read_text()

    with browser.new_context(base_url=place.url, color_scheme=theme) as context:
        page = context.new_page()
        confirm = "/errors/confirm?queue=app%3Ashop&do=discard"
        for address in (*VIEWS.values(), confirm, "/queue?queue=none"):
            page.goto(address)
            page.evaluate(axe)  # as the debugger does, so the page's policy allows it
            found = page.evaluate("axe.run().then(found => found.violations)")
            assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], address


def test_page_works_without_scripts(browser: Any, place: Served) -> None:
    with browser.new_context(base_url=place.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(VIEWS["queue"])
        page.get_by_label("State").select_option("delayed")

        page.get_by_role("button", name="Filter").click()

        sync_api.expect(page.locator("#calls")).to_have_text("5 calls")
