"""Draws the pictures of the dashboard in `docs/`: a shop with a busy hour, seen in a browser.

Run it with a Chromium: ``python docs/dashboard_pictures.py``. It needs the dependency group
``browser``. The tests use the same shop.
"""

import asyncio
import math
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from deferrable.aio import Deferrable
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.contrib.dashboard import app
from deferrable.worker_reports import WorkerReport

DOCS = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
VIEWS = {
    "overview": "/",
    "queue": "/queue?queue=app%3Ashop",
    "errors": "/errors?queue=app%3Ashop",
    "schedules": "/schedules",
    "job": "/job?queue=app%3Ashop&job=shop.send_invoice",
}


def find_chromium() -> str | None:
    """The browser of the machine, if it has one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class PaymentDeclined(Exception):
    """An error of the example."""


class Shop:
    """Two instances with calls in all states."""

    def __init__(self) -> None:
        factory = InMemoryBackendFactory(visibility_timeout=300)
        self.shop = Deferrable(factory.create_backend_for_group("shop"), serializer="json")
        self.mails = Deferrable(factory.create_backend_for_group("mails"), serializer="json")
        self.held = asyncio.Event()

        @self.shop.periodic("0 6 * * mon-fri", timezone="Europe/Berlin", name="daily report")
        @self.shop.deferrable(name="shop.report")
        async def report() -> None: ...

        @self.shop.periodic(every_seconds=30, jitter_seconds=5)
        @self.shop.deferrable(name="shop.sweep")
        async def sweep() -> None: ...

        @self.shop.deferrable(name="shop.send_invoice", max_attempts=3)
        async def send_invoice(order: int, customer: str = "") -> None:
            if order % 3 == 0:
                raise PaymentDeclined(f"card of order {order} was declined by the bank")
            if order % 7 == 0:
                raise TimeoutError(f"no answer from https://bank.example for order {order}")

        @self.shop.deferrable(name="shop.export", max_attempts=3)
        async def export(year: int) -> None:
            await self.held.wait()

        @self.mails.deferrable(name="mails.send")
        async def send(to: str) -> None: ...

        self.report, self.send_invoice, self.export, self.send = report, send_invoice, export, send
        self.running: list[asyncio.Task[Any]] = []

    async def fill(self) -> None:
        """Have calls run, fail, wait and be delayed."""
        for order in range(1, 22):
            await self.send_invoice.later_async(order, customer=f"c{order}")
            await self.shop.run_once()
        for year in (2024, 2025):
            await self.export.later_async(year)
            self.running.append(asyncio.ensure_future(self.shop.run_once()))
            await asyncio.sleep(0)
        for order in range(22, 40):
            await self.send_invoice.later_async(order, customer=f"c{order}")
        for order in range(40, 45):
            await self.send_invoice.options(delay_seconds=60 * order).later_async(order)
        for number in range(7):
            await self.send.later_async(f"{number}@example.org")
        await self.report_workers()

    async def report_workers(self) -> None:
        """Have three workers report, which are shown for half a minute."""
        now = self.shop.clock.time()
        for instance, reports in (
            (
                self.shop,
                [
                    WorkerReport("1", "jobs-1", 4102, 100, 1, {"shop.export": 1}, now - 93_600),
                    WorkerReport("2", "jobs-2", 3874, 100, 1, {"shop.export": 1}, now - 5_400),
                ],
            ),
            (self.mails, [WorkerReport("3", "jobs-2", 3875, 20, 0, {}, now - 5_400)]),
        ):
            for report in reports:
                await instance.backend.queue.report_worker(report)


def invent_an_hour(made: Any, now: float) -> None:
    """Give the histories an hour, which nobody wants to wait for."""
    from deferrable.contrib.dashboard._history import Slot

    chance = random.Random(7)
    for place, shown in enumerate(made.state.site.shown.values()):
        begin = now - now % 10
        shown.history.slots.clear()
        for number in range(359, -1, -1):
            wave = 1 + math.sin(number / 37 + place) + chance.random() / 2
            burst = 30 if 120 < number < 150 and not place else 0
            slot = Slot(begin - 10 * number, int(14 * wave + burst), int(2 * wave), 9)
            slot.arrivals, slot.completions = int(60 * wave + burst), int(55 * wave)
            slot.failures = int(chance.random() > 0.93) * (1 - place)
            shown.history.slots.append(slot)


class Served:
    """A dashboard that is served in a thread.

    Attributes:
        url: without a slash at its end.
        made: the application.
    """

    def __init__(self, shop: Shop, **options: Any) -> None:
        self.shop = shop
        self.made = app({"app:shop": shop.shop, "app:mails": shop.mails}, **options)
        config = uvicorn.Config(
            self.made, port=0, log_level="error", timeout_graceful_shutdown=1, lifespan="on"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.shop.fill()
        await self._server.serve()
        self.shop.held.set()
        await asyncio.gather(*self.shop.running)

    def do(self, coroutine: Any) -> Any:
        """Run something on the loop of the server."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join()


@contextmanager
def served(**options: Any) -> Iterator[Served]:
    """A shop and its dashboard."""
    made = Served(Shop(), **options)
    try:
        yield made
    finally:
        made.close()


def draw(folder: Path) -> None:
    """Draw each view in both themes."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        sys.exit("there is no Chromium here; install one, or set $CHROMIUM to its path")
    with served(allow_actions=True) as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            context = browser.new_context(
                color_scheme=theme, viewport={"width": 1120, "height": 860}
            )
            page = context.new_page()
            for name, address in VIEWS.items():
                _prepare(place)
                page.goto(place.url + address)
                _save(page, folder / f"dashboard-{name}-{theme}.png")
            page.goto(f"{place.url}{VIEWS['errors']}")
            page.locator("#i1").click()
            # The paths of this machine are nobody's business.
            page.locator("pre.trace").evaluate(
                "(pre, folder) => pre.textContent = pre.textContent.replaceAll(folder, '/app')",
                str(DOCS),
            )
            _save(page, folder / f"dashboard-error-{theme}.png")
            _prepare(place)
            page.set_viewport_size({"width": 390, "height": 780})
            page.goto(place.url)
            _save(page, folder / f"dashboard-phone-{theme}.png")
        browser.close()


def _prepare(place: Served) -> None:
    """Have the last hour end now, and the workers report."""
    place.do(place.shop.report_workers())
    invent_an_hour(place.made, time.time())


def _save(page: Any, path: Path) -> None:
    page.wait_for_load_state("load")
    page.screenshot(path=path)
    print(f"drew {path.name}, {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
