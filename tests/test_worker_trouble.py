"""A worker whose broker goes away: it comes back to it, settles what it ran, and says so."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from faces import Face
from hypothesis import given
from hypothesis import strategies as st
from redis_proxy import wire_to
from redis_server import start_redis, unique_group

from deferrable import current_attempt
from deferrable.aio import Deferrable, Worker
from deferrable.aio.backend import DocketsBackendFactory
from deferrable.aio.current import CurrentAttempt
from deferrable.aio.worker._health import SILENCE_SECONDS, Health
from deferrable.aio.worker._polling import reconnect_seconds
from deferrable.testing import wait_until

LEASE_SECONDS = 20.0
SLOW_SECONDS = 0.3
SHORT_LEASE_SECONDS = 6.0
"""A test waits for its end. It is renewed after a third, so a busy machine has the rest for it."""


def messages(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if text in each.getMessage()]


# The wait between tries.


@given(failures=st.integers(1, 10**6), draw=st.floats(0, 1))
def test_the_wait_is_capped_and_never_nothing(failures: int, draw: float) -> None:
    assert 0.05 <= reconnect_seconds(failures, draw) <= 5.0


@given(failures=st.integers(1, 100), draw=st.floats(0, 1))
def test_the_wait_grows(failures: int, draw: float) -> None:
    assert reconnect_seconds(failures, draw) <= reconnect_seconds(failures + 1, draw)


def test_half_of_the_wait_is_left_to_chance() -> None:
    assert reconnect_seconds(3, 0) == 0.2
    assert reconnect_seconds(3, 1) == 0.4


# Health.


@pytest.fixture
def face() -> Face:
    return Face("awaiting", lease_seconds=LEASE_SECONDS)


def test_a_queue_that_is_not_polled_because_every_slot_is_taken_is_healthy(face: Face) -> None:
    queue = face.backend.queue
    health = Health([queue])
    health.note_pause(queue)

    face.clock.advance(SILENCE_SECONDS + 1)
    health.note_touch(queue, None)

    assert health.is_healthy


def test_a_poll_without_an_answer_turns_the_health_red(face: Face) -> None:
    queue = face.backend.queue
    health = Health([queue])
    health.note_poll_start(queue)

    face.clock.advance(SILENCE_SECONDS + 1)
    health.note_touch(queue, None)

    assert not health.is_healthy


def test_a_poll_that_has_waited_for_room_is_young(face: Face) -> None:
    queue = face.backend.queue
    health = Health([queue])
    health.note_pause(queue)
    face.clock.advance(SILENCE_SECONDS + 1)
    health.note_touch(queue, None)

    health.note_poll_start(queue)

    assert health.is_healthy


def test_a_failed_poll_is_red_until_one_is_answered(face: Face) -> None:
    queue = face.backend.queue
    health = Health([queue])
    health.note_poll(queue, ConnectionError("gone"))
    (seen,) = health.queues().values()
    health.note_poll(queue, None)

    assert (seen.is_healthy, seen.error) == (False, "gone")
    assert health.is_healthy


def test_touches_without_an_answer_for_a_lease_turn_the_health_red(face: Face) -> None:
    queue = face.backend.queue
    health = Health([queue])
    health.note_pause(queue)

    face.clock.advance(LEASE_SECONDS)

    assert not health.is_healthy


# Faults in memory.


@pytest.mark.anyio
async def test_a_poll_that_fails_is_tried_again_and_logged_once_each_way(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    face.faults.drop("pop", times=5)
    await face.later(face.job(do_nothing, name="do_nothing"))

    async with face.instance.worker() as worker:
        for count in range(1, 6):
            await wait_until(lambda count=count: len(face.faults.injected) == count, "it failed")  # type: ignore[misc]
            await wait_until(lambda: face.clock.pending >= 3, "it pauses")  # one is for reports
            assert not worker.health.is_healthy
            face.clock.advance(5)
        outcome = await anext(worker)
        await wait_until(lambda: worker.health.is_healthy, "its health is green again")

    assert outcome.status == "completed"
    assert len(messages(caplog, "cannot be polled")) == 1
    assert len(messages(caplog, "is back after 5 failures")) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["drop", "fail_after"])
async def test_a_settlement_is_tried_again_until_the_broker_takes_it(
    face: Face, fault: str
) -> None:
    getattr(face.faults, fault)("complete", times=3)
    await face.later(face.job(do_nothing, name="do_nothing"))

    async with face.instance.worker() as worker:
        reading = asyncio.create_task(worker.next_outcome())
        for count in range(1, 4):
            await wait_until(lambda count=count: len(face.faults.injected) >= count, "it failed")  # type: ignore[misc]
            await wait_until(lambda: face.clock.pending >= 3 or reading.done(), "it pauses")
            face.clock.advance(1)
        outcome = await reading

    assert outcome is not None
    # In memory an item that was completed is not known any more.
    assert outcome.status == ("completed" if fault == "drop" else "lost")
    assert await face.items() == []


@pytest.mark.anyio
async def test_a_settlement_that_the_broker_never_takes_is_given_up_with_the_lease(
    face: Face,
) -> None:
    face.faults.drop("complete", times=None)
    face.faults.drop("touch", times=None)
    await face.later(face.job(do_nothing, name="do_nothing"))

    async with face.instance.worker(concurrency=1) as worker:
        reading = asyncio.create_task(worker.next_outcome())
        while not reading.done():
            await wait_until(lambda: face.clock.pending >= 3 or reading.done(), "it pauses")
            face.clock.advance(1)
        outcome = reading.result()
        face.faults.clear()
        worker.stop()

    assert outcome is not None
    assert outcome.status == "lost"
    assert len(await face.items()) <= 1


@pytest.mark.anyio
async def test_stopping_does_not_wait_for_a_broker_longer_than_the_grace_period(
    face: Face,
) -> None:
    face.faults.drop("complete", times=None)
    await face.later(face.job(do_nothing, name="do_nothing"))

    async with face.instance.worker(grace_seconds=0) as worker:
        await wait_until(lambda: face.faults.injected, "it could not be completed")
        worker.stop()
        reading = asyncio.create_task(worker.next_outcome())
        while not reading.done():
            face.clock.advance(0.1)
            await asyncio.sleep(0)
        outcome = reading.result()

    assert outcome is not None
    assert outcome.status == "lost"
    assert await face.stats() == (0, 1, 0)


async def do_nothing() -> None:
    pass


# A real Redis.


class Site:
    """A worker's instance on a Redis of this test."""

    def __init__(
        self, url: str, group: str | None = None, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.group = unique_group("trouble-") if group is None else group
        factory = DocketsBackendFactory(url, 3, lease_seconds)
        self.instance = Deferrable(factory.create_backend_for_group(self.group))
        self.opened = asyncio.Event()
        self.started = 0

        self.attempts: list[CurrentAttempt] = []

        async def wait() -> None:
            self.started += 1
            self.attempts.append(current_attempt())
            await self.opened.wait()

        self.job = self.instance.deferrable(name="wait")(wait)


async def in_thread(function: Callable[[], Any]) -> None:
    await asyncio.to_thread(function)


async def turns_red(worker: Worker) -> None:
    await wait_until(lambda: not worker.health.is_healthy, "its health is red")


async def turns_green(worker: Worker) -> None:
    await wait_until(lambda: worker.health.is_healthy, "its health is green")


def left(stats: Mapping[str, float]) -> float:
    """How many items there are, whatever their state."""
    return sum(stats[name] for name in ("available", "in_flight", "delayed"))


POLLS = {"cannot be polled": "deaf", "is back after": "back"}
TOUCHES = {"cannot touch": "cannot touch", "are touched again": "touches"}


def told(caplog: pytest.LogCaptureFixture, lines: Mapping[str, str] = POLLS) -> list[str]:
    """The changes of state that are in the log."""
    messages = [record.getMessage() for record in caplog.records]
    return [word for each in messages for part, word in lines.items() if part in each]


@pytest.mark.anyio
async def test_running_jobs_live_through_a_freeze_of_redis_and_are_settled_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start_redis() as server:
        site = Site(server.url)
        async with site.instance, site.instance.worker() as worker:
            await site.job.later_async()
            await wait_until(lambda: site.started, "it runs")
            server.freeze()
            await turns_red(worker)
            site.opened.set()
            server.thaw()
            outcome = await anext(worker)
            await turns_green(worker)
            stats = await site.instance.backend.queue.stats()

    assert outcome.status == "completed"
    assert left(stats) == 0
    assert told(caplog) == ["deaf", "back"]


@pytest.mark.anyio
async def test_a_redis_that_lost_its_data_is_served_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start_redis() as server:
        site = Site(server.url)
        async with site.instance, site.instance.worker() as worker:
            await site.job.later_async()
            await wait_until(lambda: site.started, "it runs")
            await in_thread(server.kill)
            await turns_red(worker)
            await in_thread(server.start)
            await turns_green(worker)
            site.opened.set()
            lost = await anext(worker)
            await site.job.later_async()
            completed = await anext(worker)

    assert lost.status == "lost"
    assert completed.status == "completed"
    assert told(caplog) == ["deaf", "back"]


@pytest.mark.anyio
async def test_a_redis_that_kept_its_data_gets_the_settlement_of_what_ran_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start_redis(config={"appendonly": "yes", "appendfsync": "always"}) as server:
        site = Site(server.url)
        async with site.instance, site.instance.worker() as worker:
            await site.job.later_async()
            await wait_until(lambda: site.started, "it runs")
            await in_thread(server.kill)
            await turns_red(worker)
            site.opened.set()
            await in_thread(server.start)
            outcome = await anext(worker)
            await turns_green(worker)
            stats = await site.instance.backend.queue.stats()

    assert outcome.status == "completed"
    assert (site.started, left(stats)) == (1, 0)
    assert told(caplog) == ["deaf", "back"]


@pytest.mark.anyio
async def test_a_slow_redis_keeps_its_leases_and_loses_and_doubles_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start_redis() as server:
        async with wire_to(server.port) as wire:
            wire.reply_seconds = SLOW_SECONDS
            site = Site(wire.url, lease_seconds=SHORT_LEASE_SECONDS)
            async with site.instance, site.instance.worker() as worker:
                await site.job.later_many_async([()] * 5)
                await wait_until(lambda: site.started == 5, "they run")
                first_ends = [each.lease_end_time for each in site.attempts]
                async with Site(
                    server.url, site.group, lease_seconds=SHORT_LEASE_SECONDS
                ).instance as other:
                    await wait_until(
                        lambda: all(
                            attempt.lease_end_time > end + SHORT_LEASE_SECONDS
                            for attempt, end in zip(site.attempts, first_ends, strict=True)
                        ),
                        "each lease was renewed for longer than a lease",
                    )
                    stolen = await other.run_once()
                site.opened.set()
                outcomes = [await anext(worker) for _ in range(5)]
                stats = await site.instance.backend.queue.stats()

    assert [outcome.status for outcome in outcomes] == ["completed"] * 5
    assert (stolen, site.started, left(stats)) == (None, 5, 0)
    assert told(caplog, {**POLLS, **TOUCHES}) == []


@pytest.mark.anyio
async def test_refused_connections_are_told_of_once_and_the_lease_outlives_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start_redis() as server:
        async with wire_to(server.port) as wire:
            site = Site(wire.url, lease_seconds=12)
            async with site.instance, site.instance.worker() as worker:
                await site.job.later_async()
                await wait_until(lambda: site.started, "it runs")
                wire.refuse()
                await turns_red(worker)
                await wait_until(lambda: "cannot touch" in told(caplog, TOUCHES), "a touch failed")
                await wire.accept()
                await wait_until(lambda: "touches" in told(caplog, TOUCHES), "a touch was answered")
                await turns_green(worker)
                site.opened.set()
                outcome = await anext(worker)
                stats = await site.instance.backend.queue.stats()

    assert (outcome.status, site.started, left(stats)) == ("completed", 1, 0)
    assert told(caplog) == ["deaf", "back"]
    assert told(caplog, TOUCHES) == ["cannot touch", "touches"]


@pytest.mark.anyio
async def test_a_redis_that_takes_no_more_clients_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start_redis() as server, server.client() as client:
        client.ping()
        site = Site(server.url, lease_seconds=120)
        async with site.instance, site.instance.worker() as worker:
            health = worker.health
            await site.job.later_async()
            await wait_until(lambda: site.started, "it runs")
            client.config_set("maxclients", 1)
            client.client_kill_filter(_type="normal", skipme=True)
            # Not by the error's text: on a busy machine the refusal is cut off before it is read.
            await wait_until(
                lambda: (
                    cast(Any, client.info("stats"))["rejected_connections"]
                    and not health.is_healthy
                ),
                "it was refused",
            )
            is_healthy = health.is_healthy
            client.config_set("maxclients", 100)
            await turns_green(worker)
            site.opened.set()
            outcome = await anext(worker)

    assert (is_healthy, outcome.status, site.started) == (False, "completed", 1)
    assert told(caplog) == ["deaf", "back"]


@pytest.mark.anyio
async def test_a_worker_that_starts_before_its_redis_works_when_that_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with start_redis() as server:
        await in_thread(server.stop)
        site = Site(server.url)
        site.opened.set()
        async with site.instance, site.instance.worker() as worker:
            await turns_red(worker)
            await in_thread(server.start)
            await turns_green(worker)
            await site.job.later_async()
            outcome = await anext(worker)

    assert outcome.status == "completed"
    assert told(caplog) == ["deaf", "back"]


@pytest.mark.anyio
async def test_connections_that_are_cut_are_opened_again() -> None:
    with start_redis() as server:
        site = Site(server.url)
        async with site.instance, site.instance.worker() as worker:
            for count in range(1, 6):
                site.opened.clear()
                # From its own connection: a push that meets the cut may raise.
                async with Site(server.url, group=site.group).instance as producer:
                    await producer.registry["wait"].later_async()
                await wait_until(lambda count=count: site.started == count, "it runs")  # type: ignore[misc]
                with server.client() as client:
                    client.client_kill_filter(_type="normal", skipme=True)
                site.opened.set()
                outcome = await anext(worker)
                assert outcome.status == "completed"


@pytest.mark.anyio
async def test_an_idle_poll_costs_few_commands() -> None:
    with start_redis() as server:
        site = Site(server.url)
        async with site.instance, site.instance.worker():
            polls = count_polls(site)
            await wait_until(lambda: len(polls) >= 1, "the first poll ended")
            with server.client() as client:
                before = commands(client)
                await wait_until(lambda: len(polls) >= 4, "three more polls ended")
                sent = commands(client) - before

    # Four polls may have begun meanwhile; one of them may have looked for dead consumers. Each
    # looks three times whether the queue is paused.
    assert sent <= 4 * (4 + 3 * 2) + 2


def count_polls(site: Site) -> list[int]:
    """Grows by one with each poll that ends."""
    queue, polls = site.instance.backend.queue, []
    hook = queue.pop_up_to

    async def pop_up_to(count: int) -> Any:
        popped = await hook(count)
        polls.append(count)
        return popped

    queue.pop_up_to = pop_up_to  # type: ignore[method-assign] # this one object's
    return polls


def commands(client: Any) -> int:
    """How many commands the server has performed, but for those that only look."""
    stats = client.info("commandstats")
    return sum(
        stat["calls"]
        for name, stat in stats.items()
        if name not in ("cmdstat_info", "cmdstat_hello", "cmdstat_client|setinfo")
    )
