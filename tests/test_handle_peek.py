"""Look at the calls of an instance, run one now, and cancel all of a job."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from commands import call_command
from handle_shop import Shop, echo
from redis_server import RedisServer, unique_group

import deferrable
from deferrable import UnreadableItem
from deferrable.aio import Deferrable
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio


async def test_peek_shows_what_is_delayed_queued_and_running_without_taking_it(shop: Shop) -> None:
    running = await shop.later("running")
    envelope, _ = await shop.core.queue.pop()
    queued = await shop.later("queued")
    delayed = await shop.later("delayed", delay_seconds=60)
    before = await shop.core.queue.stats()

    peeked = await shop.do(shop.instance.peek)

    assert {each.id: each.state.status for each in peeked} == {
        running.id: "running",
        queued.id: "queued",
        delayed.id: "delayed",
    }
    assert {each.call.args for each in peeked} == {("running",), ("queued",), ("delayed",)}
    assert {each.job for each in peeked} == {"note"}
    assert await shop.core.queue.stats() == before
    await shop.core.queue.complete(envelope)


async def test_peek_shows_only_what_is_asked_for(shop: Shop) -> None:
    other = shop.instance.deferrable(name="other")(echo)
    first = await shop.later(1)
    await shop.later(2, delay_seconds=60)
    await shop.do(other.later if shop.is_blocking else other.later_async, 3)

    async def numbers(*args: Any, **options: Any) -> list[Any]:
        return [each.call.args[0] for each in await shop.do(shop.instance.peek, *args, **options)]

    assert await numbers(state="delayed") == [2]
    assert await numbers(job="other") == await numbers(job=other) == [3]
    assert await numbers(ids=[(first.id or "")[:8]]) == [1]
    assert len(await numbers(2)) == 2
    assert await numbers(state="retrying") == []


async def test_peek_refuses_what_is_no_job_and_no_list_of_ids(shop: Shop) -> None:
    with pytest.raises(TypeError, match="takes a job or its name, got int"):
        await shop.do(shop.instance.peek, job=1)
    with pytest.raises(TypeError, match="got SimpleNamespace"):
        await shop.do(shop.instance.peek, job=SimpleNamespace(name="report"))
    with pytest.raises(TypeError, match="takes several ids"):
        await shop.do(shop.instance.peek, ids="one")


async def test_peeked_call_hides_arguments_in_its_repr(shop: Shop) -> None:
    receipt = await shop.later("a secret")

    (peeked,) = await shop.do(shop.instance.peek)

    assert repr(peeked) == f"<PeekedCall {receipt.id} of note, queued>"


async def test_call_that_this_instance_must_not_read_is_shown_but_not_decoded(
    shop_backend: Any, shop_clock: MovingClock
) -> None:
    receipt = await Shop("awaiting", shop_backend, shop_clock).later(1)
    strict = Deferrable(shop_backend, signing_keys=["k" * 16])

    (peeked,) = await strict.peek()

    assert peeked.id == receipt.id
    with pytest.raises(UnreadableItem, match="not signed"):
        _ = peeked.call


async def test_delayed_call_and_a_retry_run_now(shop: Shop) -> None:
    delayed = await shop.later(1, delay_seconds=600)
    retrying = await shop.later("fail once")
    await shop.run_once()

    for receipt in (delayed, retrying):
        verb = receipt.run_now if shop.is_blocking else receipt.run_now_async
        assert await shop.do(verb)
        assert (await shop.state(receipt)).available_time is None

    assert (await shop.run_once()).status == "completed"
    assert (await shop.run_once()).item["attempts"] == 1


async def test_a_debounced_call_that_runs_now_leaves_no_window_that_skips_later_ones(
    shop: Shop,
) -> None:
    options = {"debounce_seconds": 600, "debounce_always_delay": True}
    first = await shop.later("A", **options)
    verb = first.run_now if shop.is_blocking else first.run_now_async
    assert await shop.do(verb)
    assert (await shop.run_once()).status == "completed"

    second = await shop.later("A", **options)

    assert second.status == "delayed"


async def test_signed_call_runs_now_and_is_signed_still(
    shop_backend: Any, shop_clock: MovingClock
) -> None:
    shop = Shop("awaiting", shop_backend, shop_clock, signing_keys=["k" * 16])
    receipt = await shop.later(1, delay_seconds=600)

    assert await receipt.run_now_async()

    assert (await shop.run_once()).status == "completed"


async def test_call_that_a_consumer_has_or_nobody_does_not_run_now(shop: Shop) -> None:
    receipt = await shop.later(1)
    assert await receipt.run_now_async()
    envelope, _ = await shop.core.queue.pop()

    assert not await receipt.run_now_async()

    await shop.core.queue.complete(envelope)
    assert not await receipt.run_now_async()


async def test_all_calls_of_a_job_are_cancelled_and_no_others(shop: Shop) -> None:
    many = 1300
    other = shop.instance.deferrable(name="other")(echo)
    held = await shop.later("held")
    envelope, _ = await shop.core.queue.pop()
    await shop.do(
        shop.job.later_many if shop.is_blocking else shop.job.later_many_async,
        [(number,) for number in range(many)],
    )
    await shop.later("late", delay_seconds=60)
    await other.later_async(1)

    counts = await shop.do(shop.instance.cancel_calls, shop.job)

    assert counts == {"cancelled": many + 1, "running": 1}
    assert shop.events.count("cancel") == many + 1
    assert [each.job for each in await shop.do(shop.instance.peek, state="queued")] == ["other"]
    assert (await shop.state(held)).status == "running"
    await shop.core.queue.complete(envelope)


# The command line.


class Console:
    """Runs ``deferrable items`` on a group that `instance` fills."""

    def __init__(self, url: str) -> None:
        self.variables = {"REDIS_URL": url, "GROUP": unique_group("cli-")}
        factory = deferrable.backend.DocketsBackendFactory(url)
        self.backend = factory.create_backend_for_group(self.variables["GROUP"])
        self.instance = deferrable.Deferrable(self.backend)
        self.divide = self.instance.deferrable(name="cli_app.jobs:divide")(echo)

    def run(self, command: str, *arguments: str) -> Any:
        return call_command(
            "items", command, "cli_app.jobs:stats", *arguments, variables=self.variables
        )


@pytest.fixture
def console(redis_server: RedisServer) -> Any:
    made = Console(redis_server.url)
    yield made
    made.backend.queue.flush()
    made.backend.close()


def test_items_are_listed(console: Console) -> None:
    first = console.divide.later(1)
    console.divide.options(delay_seconds=600).later(2)

    shown = console.run("list")
    told = json.loads(console.run("list", "--state", "queued", "--json").stdout)

    assert shown.returncode == 0
    assert first.id in shown.stdout
    assert "delayed" in shown.stdout
    assert "2 calls" in shown.stdout
    assert [(each["id"], each["status"], each["attempt"]) for each in told] == [
        (first.id, "queued", 1)
    ]


def test_item_is_shown_whole(console: Console) -> None:
    receipt = console.divide.later("a\x1b[31mb")
    assert receipt.id is not None

    shown = console.run("show", receipt.id[:8])
    told = json.loads(console.run("show", receipt.id, "--json").stdout)

    assert "\x1b" not in shown.stdout
    assert "queued" in shown.stdout
    assert told[0]["call"]["args"] == ["'a\\x1b[31mb'"]
    assert told[0]["item"]["id"] == receipt.id


def test_item_is_cancelled_by_the_beginning_of_its_id(console: Console) -> None:
    receipt = console.divide.later(1)
    assert receipt.id is not None

    done = console.run("cancel", receipt.id[:8])

    assert (done.returncode, done.stdout.strip()) == (0, f"{receipt.id}: cancelled")
    assert receipt.state().status == "cancelled"


def test_running_item_is_not_cancelled_and_the_command_says_so(console: Console) -> None:
    receipt = console.divide.later(1)
    envelope, _ = console.backend.queue.pop()
    assert receipt.id is not None

    done = console.run("cancel", receipt.id)
    stopped = console.run("cancel", receipt.id, "--stop")

    assert (done.returncode, done.stdout.strip()) == (1, f"{receipt.id}: running")
    assert stopped.returncode == 0
    assert envelope is not None
    console.backend.queue.complete(envelope)


def test_all_items_of_a_job_are_cancelled(console: Console) -> None:
    console.divide.later_many([(1,)] * 3)

    done = console.run("cancel", "--job", "cli_app.jobs:divide")

    assert (done.returncode, done.stdout.strip()) == (0, "cancelled 3 calls; 0 are running")


def test_delayed_item_is_run_now(console: Console) -> None:
    receipt = console.divide.options(delay_seconds=600).later(1)
    assert receipt.id is not None

    done = console.run("run-now", receipt.id)

    assert (done.returncode, done.stdout.strip()) == (0, f"{receipt.id}: available now")
    assert receipt.state().status == "queued"


@pytest.mark.parametrize("command", ["show", "cancel", "run-now"])
def test_unknown_id_is_an_error_and_no_id_says_what_to_do(console: Console, command: str) -> None:
    unknown, none = console.run(command, "nobody"), console.run(command)

    assert unknown.returncode == 1
    assert "no waiting or running call is called nobody" in unknown.stderr
    assert none.returncode == 2
    assert "by their ids" in none.stderr
