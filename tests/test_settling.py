"""A settlement that the broker refuses is tried again while the lease lasts: the job runs once."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faces import Face, wait_here
from redis_server import RedisServer, start_redis, unique_group
from sqs_proxy import Proxy, answer
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory
from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.errors import BackendError, ItemTooLarge, SerializationError, Unsupported
from deferrable.outcome import Outcome
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 20.0


@pytest.fixture
def face() -> Face:
    return Face("awaiting", lease_seconds=LEASE_SECONDS)


def messages(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if text in each.getMessage()]


class Job:
    """A job that counts its runs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.error = error

    async def __call__(self) -> None:
        self.runs += 1
        if self.error is not None:
            raise self.error


CASES: dict[str, tuple[str, Exception | None, dict[str, Any], str]] = {
    "complete": ("complete", None, {}, "completed"),
    "retry": ("replace", KeyError("again"), {"error_classes": [KeyError]}, "retried"),
    "bury": ("replace", KeyError("for good"), {}, "errored"),
}


async def read(face: Face, outcome: "asyncio.Task[Outcome | None]") -> Outcome:
    """The outcome, for which the clock is moved a second at a time."""
    while not outcome.done():
        await wait_until(lambda: face.clock.pending >= 3 or outcome.done(), "it pauses")
        face.clock.advance(1)
    result = outcome.result()
    assert result is not None
    return result


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("is_listened_to", [True, False])
async def test_a_refused_settlement_is_tried_again_and_logged_once_each_way(
    face: Face, case: str, is_listened_to: bool, caplog: pytest.LogCaptureFixture
) -> None:
    verb, error, options, status = CASES[case]
    job = Job(error)
    if is_listened_to:
        face.record_events()
    await face.later(face.job(job, name="job", **options))
    face.faults.fail_before(
        verb, times=5, error=BackendError("NOPERM this user has no permissions")
    )

    async with face.instance.worker() as worker:
        outcome = await read(face, asyncio.ensure_future(worker.next_outcome()))
        worker.stop()

    assert (outcome.status, job.runs) == (status, 1)
    assert len(face.faults.injected) == 5
    assert len(messages(caplog, "cannot be settled now")) == 1
    assert len(messages(caplog, "are settled again")) == 1


async def test_many_refused_settlements_are_logged_once(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job()
    await face.later_many(face.job(job, name="job"), [()] * 10)
    face.faults.fail_before("complete", times=30)

    async with face.instance.worker() as worker:
        for _ in range(10):
            outcome = await read(face, asyncio.ensure_future(worker.next_outcome()))
            assert outcome.status == "completed"
        worker.stop()

    assert job.runs == 10
    assert len(messages(caplog, "cannot be settled now")) == 1


async def test_a_refused_settlement_outlives_many_leases_while_touches_are_taken(
    face: Face,
) -> None:
    job = Job()
    await face.later(face.job(job, name="job"))
    face.faults.fail_before("complete", times=60)

    async with face.instance.worker() as worker:
        begin_time = face.clock.time()
        outcome = await read(face, asyncio.ensure_future(worker.next_outcome()))
        worker.stop()

    assert (outcome.status, job.runs) == ("completed", 1)
    assert face.clock.time() - begin_time > 3 * LEASE_SECONDS


async def test_a_refused_touch_does_not_end_a_lease(face: Face) -> None:
    job = Job()
    await face.later(face.job(job, name="job"))
    face.faults.fail_before("complete", times=None)
    face.faults.fail_before("touch", times=None)

    async with face.instance.worker() as worker:
        reading = asyncio.ensure_future(worker.next_outcome())
        begin_time = face.clock.time()
        while face.clock.time() < begin_time + LEASE_SECONDS - 8:
            await wait_until(lambda: face.clock.pending >= 3, "it pauses")
            face.clock.advance(1)
        face.faults.clear()
        outcome = await read(face, reading)
        worker.stop()

    assert (outcome.status, job.runs) == ("completed", 1)


@pytest.mark.parametrize("case", CASES)
async def test_an_error_that_a_queue_did_not_translate_is_tried_again_and_logged_once(
    face: Face, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    verb, error, options, status = CASES[case]
    job = Job(error)
    await face.later(face.job(job, name="job", **options))
    face.faults.fail_before(verb, times=4, error=OSError("a driver's own"))

    async with face.instance.worker() as worker:
        outcome = await read(face, asyncio.ensure_future(worker.next_outcome()))
        worker.stop()

    assert (outcome.status, job.runs) == (status, 1)
    assert len(face.faults.injected) == 4
    (record,) = [each for each in caplog.records if "cannot be settled now" in each.getMessage()]
    assert record.exc_info is not None


async def test_an_error_that_a_queue_never_translates_is_tried_again_for_one_lease(
    face: Face,
) -> None:
    job = Job()
    await face.later(face.job(job, name="job"))
    face.faults.fail_before("complete", times=None, error=RuntimeError("a mistake"))

    async with face.instance.worker() as worker:
        begin_time = face.clock.time()
        outcome = await read(face, asyncio.ensure_future(worker.next_outcome()))
        worker.stop()

    assert (outcome.status, job.runs) == ("lost", 1)
    assert LEASE_SECONDS <= face.clock.time() - begin_time <= LEASE_SECONDS + 10


@pytest.mark.parametrize(
    "error", [ItemTooLarge("too large"), Unsupported("cannot"), SerializationError("not JSON")]
)
async def test_what_can_never_be_taken_is_not_tried_again(face: Face, error: Exception) -> None:
    await face.later(face.job(Job(KeyError("again")), name="job", error_classes=[KeyError]))
    face.faults.fail_before("replace", times=None, error=error)

    async with face.instance.worker() as worker:
        outcome = await worker.next_outcome()
        worker.stop()

    assert outcome is not None
    assert outcome.status == "lost"
    assert len(face.faults.injected) == 1


async def test_a_copy_whose_original_cannot_be_completed_is_pushed_once() -> None:
    face = Face("awaiting", has_atomic_replace=False)
    await face.later(face.job(Job(KeyError("for good")), name="job"))
    face.faults.fail_before("complete", times=5)

    async with face.instance.worker() as worker:
        outcome = await read(face, asyncio.ensure_future(worker.next_outcome()))
        worker.stop()

    assert outcome.status == "errored"
    assert len(await face.items()) == 1


async def test_the_end_of_the_grace_period_ends_the_tries_at_once(face: Face) -> None:
    await face.later(face.job(Job(), name="job"))
    face.faults.fail_before("complete", times=None)

    async with face.instance.worker(grace_seconds=5) as worker:
        reading = asyncio.ensure_future(worker.next_outcome())
        for _ in range(6):
            await wait_until(lambda: face.clock.pending >= 3, "it pauses")
            face.clock.advance(5)
        await wait_until(lambda: face.clock.pending >= 3, "it pauses, for some seconds by now")
        worker.stop()
        worker.stop()
        outcome = await asyncio.wait_for(reading, 30)  # the clock stands still

    assert outcome is not None
    assert outcome.status == "lost"
    assert await face.stats() == (0, 1, 0)


async def test_run_once_raises_what_the_broker_refused(face: Face) -> None:
    job = Job()
    await face.later(face.job(job, name="job"))
    face.faults.fail_before("complete", error=BackendError("NOPERM"))

    with pytest.raises(BackendError, match="NOPERM"):
        await face.run_once()

    assert await face.stats() == (0, 1, 0)


# A real Redis that refuses.


def refuse_without_replicas(server: RedisServer) -> Callable[[], object]:
    client = server.client()
    client.config_set("min-replicas-to-write", 1)
    return lambda: client.config_set("min-replicas-to-write", 0)


def refuse_the_user(server: RedisServer) -> Callable[[], object]:
    client = server.client()
    client.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
    return lambda: client.execute_command("ACL", "SETUSER", "default", "+@all")


def refuse_without_snapshots(server: RedisServer) -> Callable[[], object]:
    client = server.client()
    (Path(client.config_get("dir")["dir"]) / "snapshot").mkdir()  # in the way of the file
    client.config_set("save", "3600 1")
    client.bgsave()
    status = "rdb_last_bgsave_status"
    wait_here(lambda: client.info("persistence")[status] == "err", "the snapshot failed")
    return lambda: client.config_set("save", "")


REFUSALS = {
    "NOREPLICAS": refuse_without_replicas,
    "NOPERM": refuse_the_user,
    "MISCONF": refuse_without_snapshots,
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_redis_that_refuses_for_a_while_gets_the_settlements_afterwards(
    refusal: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened = asyncio.Event()
    runs: list[str] = []
    with start_redis(config={"dbfilename": "snapshot"}) as server:
        factory = DocketsBackendFactory(server.url, 1, LEASE_SECONDS)
        instance = Deferrable(factory.create_backend_for_group(unique_group("refused-")))

        @instance.deferrable(name="work", error_classes=[KeyError], max_attempts=2)
        async def work(name: str) -> None:
            runs.append(name)
            await opened.wait()
            if name == "fails" and len(runs) < 3:
                raise KeyError(name)

        async with instance, instance.worker() as worker:
            await work.later_many_async([("returns",), ("fails",)])
            await wait_until(lambda: len(runs) == 2, "both run")
            allow = REFUSALS[refusal](server)
            opened.set()
            await wait_until(lambda: messages(caplog, "cannot be settled now"), "Redis refuses")
            allow()
            statuses = sorted([(await anext(worker)).status for _ in range(2)])
            worker.stop()

    assert statuses == ["completed", "retried"]
    assert sorted(runs[:2]) == ["fails", "returns"]


async def test_an_sqs_that_denies_for_a_while_gets_the_settlements_afterwards(
    sqs_server: SQSServer, proxy: Proxy, sqs_group: str
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(proxy.url), wait_time=1)
    instance = Deferrable(factory.create_backend_for_group(sqs_group))
    job = Job()
    async with instance:
        await instance.deferrable(name="job")(job).later_async()
        proxy.script("DeleteMessageBatch", answer(403, "AccessDenied"), times=3)

        async with instance.worker() as worker:
            outcome = await anext(worker)
            worker.stop()

    assert (outcome.status, job.runs) == ("completed", 1)
    assert proxy.counts["DeleteMessageBatch"] == 4
