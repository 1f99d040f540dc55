"""The dashboard: what its pages show on each backend, and what its forms change."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import pytest
from dashboard_place import Visitor, text_of, visit
from handle_shop import Shop
from redis_server import unique_group

from deferrable.aio import Deferrable
from deferrable.aio.backend import InMemoryBackendFactory, SQSBackendFactory
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio

BIG = 2**63 + 1


@pytest.fixture
def shop(shop_backend: Any, shop_clock: MovingClock) -> Shop:
    """An instance on each backend."""
    return Shop("awaiting", shop_backend, shop_clock)


@pytest.fixture
async def visitor(shop: Shop) -> AsyncIterator[Visitor]:
    """May change everything."""
    async with visit({"shop": shop.instance}, allow_actions=True) as made:
        yield made


@pytest.fixture
def memory() -> Deferrable:
    backend = InMemoryBackendFactory().create_backend_for_group(unique_group())
    return Deferrable(backend, serializer="json")


async def fail(shop: Shop, count: int = 1) -> None:
    for _ in range(count):
        await shop.later("fail")
        await shop.run_once()


def ids_on(page: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"/call\?queue=shop&amp;id=([\w-]+)", page)))


async def test_overview_shows_the_numbers_of_each_queue(shop: Shop) -> None:
    await fail(shop)
    await shop.later(1)
    await shop.later(2)
    await shop.later(3, delay_seconds=60)

    async with visit({"shop": shop.instance}) as visitor:
        page = text_of(await visitor.see("/"))

    assert re.search(r"Available 2 In flight 0 Delayed 1 Errors 1", page)


async def test_instance_of_the_blocking_api_is_shown(shop_clock: MovingClock) -> None:
    backend = InMemoryBackendFactory(clock=shop_clock).create_backend_for_group(unique_group())
    shop = Shop("blocking", backend, shop_clock)
    await shop.later(1)

    async with visit({"shop": shop.instance}) as visitor:
        page = text_of(await visitor.see("/"))

    assert "Available 1 In flight 0" in page


async def test_queue_page_filters_by_state_text_and_age(visitor: Visitor, shop: Shop) -> None:
    first = await shop.later("one")
    shop.clock.advance(7200)
    second = await shop.later("two", delay_seconds=60)

    assert ids_on(await visitor.see("/queue", queue="shop")) == [first.id, second.id]
    newest = await visitor.see("/queue", queue="shop", order="newest")
    assert ids_on(newest) == [second.id, first.id]
    assert ids_on(await visitor.see("/queue", queue="shop", state="delayed")) == [second.id]
    assert ids_on(await visitor.see("/queue", queue="shop", age="hour")) == [first.id]
    assert ids_on(await visitor.see("/queue", queue="shop", text=str(second.id))) == [second.id]
    assert ids_on(await visitor.see("/queue", queue="shop", job="other")) == []


async def test_arguments_are_hidden_until_asked_for_and_exact(visitor: Visitor, shop: Shop) -> None:
    receipt = await shop.later(BIG)
    params = {"queue": "shop", "id": str(receipt.id)}

    assert str(BIG) not in await visitor.see("/call", **params)
    assert str(BIG) in await visitor.see("/call", **params, arguments="show")


async def test_delayed_call_is_cancelled_or_run_now(visitor: Visitor, shop: Shop) -> None:
    cancelled = await shop.later(1, delay_seconds=60)
    hastened = await shop.later(2, delay_seconds=60)

    await visitor.send("/call/change", queue="shop", id=str(cancelled.id), do="cancel")
    await visitor.send("/call/change", queue="shop", id=str(hastened.id), do="run now")

    assert (await shop.state(cancelled)).status == "cancelled"
    assert (await shop.state(hastened)).status == "queued"


async def test_errors_are_grouped_and_requeued_with_their_number(
    visitor: Visitor, shop: Shop
) -> None:
    await fail(shop, 3)

    page = text_of(await visitor.see("/errors", queue="shop"))
    assert "3 errors" in page
    assert re.search(r"KeyError 'fail' note 3 ", page)
    question = await visitor.see("/errors/confirm", queue="shop", do="requeue")
    assert "Requeue 3 errors?" in question

    (until,) = re.findall(r'name="until" value="([^"]+)"', question)
    answer = await visitor.send("/errors/settle", queue="shop", do="requeue", until=until)

    assert "Requeued 3 of 3." in text_of(answer.text)
    assert (await shop.awaiting.backend.queue.stats())["available"] == 3


async def test_error_that_came_after_the_question_is_left_alone(
    visitor: Visitor, shop: Shop
) -> None:
    await fail(shop)
    question = await visitor.see("/errors/confirm", queue="shop", do="discard")
    (until,) = re.findall(r'name="until" value="([^"]+)"', question)
    shop.clock.advance(10)
    await fail(shop)

    await visitor.send("/errors/settle", queue="shop", do="discard", until=until)

    assert len(ids_on(await visitor.see("/errors", queue="shop"))) == 1


async def test_one_error_has_its_traceback_and_is_discarded_alone(
    visitor: Visitor, shop: Shop
) -> None:
    await fail(shop, 2)
    first, second = ids_on(await visitor.see("/errors", queue="shop"))

    page = await visitor.see("/call", queue="shop", id=first)
    assert "Traceback (most recent call last)" in page
    assert "Requeue" in page
    await visitor.send("/errors/settle", queue="shop", id=first, do="discard")

    assert ids_on(await visitor.see("/errors", queue="shop")) == [second]


async def test_job_page_counts_what_this_process_ran(visitor: Visitor, shop: Shop) -> None:
    await fail(shop)
    await shop.later(1)
    await shop.run_once()

    page = text_of(await visitor.see("/job", queue="shop", job="note"))

    assert "completed 1" in page
    assert "errored 1" in page
    assert "takes, 99 %" in page


async def test_queue_is_paused_and_resumed(visitor: Visitor, shop: Shop) -> None:
    answer = await visitor.send("/queue/pause", queue="shop", do="pause")
    assert "Resume" in answer.text
    assert await shop.awaiting.is_paused()
    assert "by 127.0.0.1" in await visitor.see("/")

    await visitor.send("/queue/pause", queue="shop", do="resume")

    assert not await shop.awaiting.is_paused()


async def test_action_is_written_to_the_log(
    visitor: Visitor, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    await fail(shop)
    caplog.set_level(logging.INFO, "deferrable.dashboard")

    await visitor.send("/errors/settle", queue="shop", do="discard")

    begun, ended = [each.message for each in caplog.records if each.name.endswith(".dashboard")]
    assert begun == "127.0.0.1: discard 1 error, queue shop"
    assert ended == "discard ended: 1 done, 0 not, queue shop"


async def test_each_action_is_one_plain_line_also_for_a_hostile_name(
    memory: Deferrable, caplog: pytest.LogCaptureFixture
) -> None:
    @memory.periodic(every_seconds=60, name="sweep it")
    @memory.deferrable(name="sweep")
    async def sweep() -> None: ...

    receipt = await sweep.options(delay_seconds=60).later_async()
    caplog.set_level(logging.INFO, "deferrable.dashboard")
    hostile = "x\nmallory: resume, queue shop"

    async with visit({"shop": memory}, allow_actions=True, user_of=lambda _: "ada") as visitor:
        await visitor.send("/queue/pause", queue="shop", do="pause")
        await visitor.send("/schedules/run", queue="shop", schedule="sweep it")
        await visitor.send("/call/change", queue="shop", do="run now", id=str(receipt.id))
        await visitor.send("/call/change", queue="shop", do="cancel", stop="yes", id=hostile)
        await visitor.send("/errors/settle", queue="shop", do="requeue", job="sweep", text=hostile)

    begun = [each.message for each in caplog.records if each.message.startswith("ada")]
    assert begun == [
        "ada: pause, queue shop",
        "ada: run now, schedule 'sweep it', queue shop",
        f"ada: run now, call {receipt.id}, queue shop",
        "ada: cancel and stop, call 'x\\nmallory: resume, queue shop', queue shop",
        "ada: requeue 0 errors, job sweep, text 'x\\nmallory: resume, queue shop', queue shop",
    ]


async def test_schedule_shows_its_ticks_and_is_run_now(memory: Deferrable) -> None:
    @memory.periodic(every_seconds=60, name="<sweep>")
    @memory.deferrable(name="sweep")
    async def sweep() -> None: ...

    async with visit({"shop": memory}, allow_actions=True) as visitor:
        page = await visitor.see("/schedules")
        answer = await visitor.send("/schedules/run", queue="shop", schedule="<sweep>")

        assert "every 60 s" in page
        assert "then 2" in text_of(page)
        assert "pushed as" in text_of(answer.text)
        assert "<sweep>" not in answer.text
        await memory.run_once()
        assert (await memory.backend.queue.stats())["available"] == 0


async def test_dashboard_reads_again_while_a_page_is_open(memory: Deferrable) -> None:
    from deferrable.contrib.dashboard._live import stream
    from deferrable.contrib.dashboard._site import Settings, Site, shown_instances

    @memory.deferrable(name="job")
    async def job() -> None: ...

    site = Site(
        shown_instances({"shop": memory}, counts_calls=False), Settings(interval_seconds=0.01)
    )
    await site.start()

    async def render() -> str:
        reading = site.shown["shop"].history.last
        return f"a\r{reading.items['available'] if reading else None}"

    events = stream(site, render)
    try:
        async with asyncio.timeout(30):
            assert await anext(events) == b"retry: 500\n\n"
            assert await anext(events) == b"event: live\ndata: a\ndata: 0\n\n"
            for _ in range(100):
                await job.later_async()
            while (event := await anext(events)) != b"event: live\ndata: a\ndata: 100\n\n":
                assert event.startswith(b"event: live\n")
    finally:
        await events.aclose()  # type: ignore[attr-defined]
        await site.stop()
    assert site.watchers == 0


@pytest.mark.parametrize("path", ["/", "/queue", "/errors", "/schedules", "/job"])
async def test_live_part_of_each_page_is_sent(shop: Shop, path: str) -> None:
    await shop.later(1)
    params = "queue=shop&job=note"
    sent: list[bytes] = []
    is_enough = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await is_enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if b"event: live" in b"".join(sent):
            is_enough.set()

    async with visit({"shop": shop.instance}, interval_seconds=0.01) as visitor:
        scope = {
            "type": "http", "method": "GET", "path": f"/live{path}", "root_path": "",
            "query_string": params.encode(), "headers": [], "scheme": "http",
            "server": ("localhost", 80), "asgi": {"version": "3.0", "spec_version": "2.0"},
        }  # fmt: skip
        async with asyncio.timeout(30):
            await visitor.made(scope, receive, send)

    assert b"<div" in b"".join(sent) or b"<p" in b"".join(sent)


async def test_queue_that_cannot_be_reached_is_named_on_the_page(memory: Deferrable) -> None:
    async def stats() -> None:
        from deferrable import BackendUnavailable

        raise BackendUnavailable("no route to <b>redis</b>")

    memory.backend.queue.stats = stats  # type: ignore[assignment,method-assign]

    async with visit({"shop": memory}) as visitor:
        page = await visitor.see("/")

    assert "no route to &lt;b&gt;redis&lt;/b&gt;" in page


async def test_sqs_is_shown_by_its_numbers_and_read_once_a_minute(
    sqs_server: Any, sqs_group: str
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=0)
    async with Deferrable(factory.create_backend_for_group(sqs_group), serializer="json") as mails:

        @mails.deferrable(name="send")
        async def send(number: int) -> None:
            raise KeyError(number)

        await send.later_async(1)
        await mails.run_once()
        await send.later_async(2)
        async with visit({"mails": mails}, interval_seconds=0.01) as visitor:
            requests = (await mails.backend.queue.stats())["requests"]
            page = text_of(await visitor.see("/"))
            assert "1 0 0 1" in page
            assert "numbers only" in await visitor.see("/queue", queue="mails")
            assert "Look at them" in await visitor.see("/errors", queue="mails")
            for _ in range(5):
                await visitor.see("/")
                await asyncio.sleep(0)
            assert (await mails.backend.queue.stats())["requests"] == requests + 1  # this one
            page = await visitor.see("/errors", queue="mails", look="yes")
            assert "KeyError" in page
            # An open page must not take the errors again and again.
            assert "sse-connect" not in page
            (address,) = re.findall(r'href="(/call[^"]*look=yes[^"]*)"', page)
            address = unescape(address)
            one = text_of((await visitor.client.get(address)).text)
            assert "KeyError: 1" in one
            assert "Traceback (most recent call last)" in one
            unasked = await visitor.client.get(address.replace("look=yes", "look=no"))
            assert unasked.status_code == 404
            assert "cannot show an error without taking it" in unasked.text
            shown = (await visitor.client.get(f"{address}&arguments=show")).text
            assert '<dd class="mono">1</dd>' in shown
            assert (await mails.backend.error_queue.stats())["available"] == 1
