"""The frames of a failed job go with its outcome, without the garbage collector."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from faces import Face, Kind, as_kind
from test_worker import push

import deferrable
from deferrable.metadata import MetadataProducerConsumer
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

COUNT = 8


class Local:
    """What a frame holds."""


alive: "weakref.WeakSet[Local]" = weakref.WeakSet()


def hold() -> Local:
    local = Local()
    alive.add(local)
    return local


@pytest.fixture(autouse=True)
def _no_collector(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # pytest keeps every record, and with it the traceback.
    caplog.set_level(logging.CRITICAL + 1, "deferrable")
    gc.collect()
    alive.clear()
    gc.disable()
    yield
    gc.enable()


def fail(number: int) -> None:
    local = hold()
    raise ValueError(number, id(local))


def fail_for_a_reason(number: int) -> None:
    local = hold()
    try:
        fail(number)
    except ValueError as error:
        raise KeyError(id(local)) from error


def ask_for_another_attempt(number: int) -> None:
    local = hold()
    raise deferrable.Retry(after_seconds=id(local) % 2 + 1)


def leave(number: int) -> None:
    local = hold()
    raise SystemExit(id(local))


FAILURES = [fail, fail_for_a_reason, ask_for_another_attempt, leave]


async def run_all(face: Face) -> None:
    for _ in range(COUNT):
        with suppress(SystemExit):
            await run(face)


async def run(face: Face) -> None:
    """Run one item, and hold nothing that comes of it."""
    if face.is_blocking:
        face.instance.run_once()
    else:
        await face.instance.run_once()


async def work_on_all(face: Face) -> None:
    """Have a worker run everything, and hold none of its outcomes."""
    if face.is_blocking:
        with face.instance.worker() as worker:
            for _ in range(COUNT):
                next(worker)
    else:
        async with face.instance.worker() as worker:
            for _ in range(COUNT):
                await worker.next_outcome()


@pytest.mark.parametrize("failure", FAILURES)
async def test_frames_of_a_failed_job_go_with_its_outcome(
    face: Face, kind: Kind, failure: Callable[[int], None]
) -> None:
    await push(face, as_kind(kind, failure), COUNT)

    await run_all(face)

    assert len(alive) <= 2  # those of the last outcome, which a frame may still hold


@pytest.mark.parametrize("failure", FAILURES)
async def test_frames_of_a_job_that_failed_in_a_worker_go_with_its_outcome(
    make_face: Any, kind: Kind, failure: Callable[[int], None]
) -> None:
    face = make_face()
    await push(face, as_kind(kind, failure), COUNT)

    await work_on_all(face)

    assert len(alive) <= 2


async def test_frames_of_a_job_that_ran_too_long_go_with_its_outcome() -> None:
    face = Face("awaiting")

    async def sleep_for_ever(number: int) -> None:
        local = hold()
        await asyncio.Event().wait()
        del local

    await push(face, sleep_for_ever, COUNT, timeout_seconds=5)
    async with face.instance.worker() as worker:
        await wait_until(lambda: len(alive) == COUNT, "all run")
        face.clock.advance(6)
        for _ in range(COUNT):
            await worker.next_outcome()

    assert len(alive) <= 2


class Consumer(MetadataProducerConsumer):
    NAMESPACE = "test"

    def produce_metadata(self) -> str:
        return "a"

    def consume_metadata(self, value: object) -> None:
        fail(1)


@pytest.mark.parametrize("is_in_a_worker", [False, True])
async def test_frames_of_a_failed_metadata_consumer_go_with_its_outcome(
    make_face: Any, kind: Kind, is_in_a_worker: bool
) -> None:
    face = make_face()
    face.instance.register_metadata_producer_consumer(Consumer())
    await push(face, as_kind(kind, print), COUNT, name="print")

    if is_in_a_worker:
        await work_on_all(face)
    else:
        await run_all(face)

    assert len(alive) <= 2


class Handler:
    def __init__(self, kind: Kind) -> None:
        self.on_complete = as_kind(kind, fail)


async def test_frames_of_a_failed_handler_go_at_once(face: Face, kind: Kind) -> None:
    face.instance.register_event_consumer(Handler(kind))
    await push(face, print, COUNT)

    await run_all(face)

    assert len(alive) == 0


async def test_frames_of_a_cancelled_call_go_with_it() -> None:
    face = Face("awaiting")

    started = asyncio.Event()

    async def wait_for_ever(number: int) -> None:
        local = hold()
        started.set()
        await asyncio.Event().wait()
        del local

    await push(face, wait_for_ever, COUNT)
    for _ in range(COUNT):
        running = asyncio.create_task(face.run_once())
        await started.wait()
        started.clear()
        running.cancel()
        await asyncio.wait([running])
        del running

    assert len(alive) <= 2
