"""What goes wrong between us and SQS, and that nothing is lost by it.

Each fault is made by a proxy in front of a real server, and strikes each verb.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from sqs_proxy import (
    Fault,
    Proxy,
    add_duplicates,
    answer,
    drop_after,
    drop_before,
    fail_entries,
    forward,
    hang,
    proxy_to,
    redeliver,
    reverse,
)
from sqs_server import SQSServer

from deferrable.aio import Deferrable, Queue
from deferrable.aio.backend.base import Backend
from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.aio.envelope import Envelope
from deferrable.errors import BackendError, BackendUnavailable, LeaseLost
from deferrable.item import Item
from deferrable.testing import wait_until

pytestmark = pytest.mark.anyio

SHORT_LEASE_SECONDS = 2
HANG_SECONDS = 5
"""A busy machine answers sooner; what hangs costs a test so much."""

FAULTS: dict[str, Fault] = {
    "throttled": answer(400, "RequestThrottled"),
    "throttled, by another name": answer(400, "ThrottlingException"),
    "429, by a code of its own": answer(429, "Unknown"),
    "500": answer(500, "InternalError"),
    "503": answer(503, "ServiceUnavailable"),
    "a page of a load balancer": answer(502, "Bad Gateway", is_html=True),
    "a page of a login": answer(200, "Sign in", is_html=True),
    "dropped before the effect": drop_before,
    "dropped after the effect": drop_after,
    "no answer": hang,
}
SEND, RECEIVE, DELETE, CHANGE = (
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
)


@pytest.fixture(params=FAULTS.values(), ids=FAULTS)
def fault(request: pytest.FixtureRequest) -> Fault:
    """Each family of what goes wrong with one request."""
    value: Fault = request.param
    return value


@pytest.fixture
def proxy(sqs_server: SQSServer) -> Iterator[Proxy]:
    with proxy_to(sqs_server.url) as proxy:
        yield proxy


@pytest.fixture
async def make_backend(
    sqs_server: SQSServer, sqs_group: str, proxy: Proxy
) -> AsyncIterator[Callable[[float], Backend]]:
    """Makes backends behind the proxy with a given lease, and closes them."""
    backends: list[Backend] = []

    def make(lease_seconds: float) -> Backend:
        factory = SQSBackendFactory(
            sqs_server.connection(proxy.url), visibility_timeout=lease_seconds, wait_time=0
        )
        backends.append(factory.create_backend_for_group(sqs_group))
        return backends[-1]

    yield make
    for backend in backends:
        await backend.close()


@pytest.fixture
def patience_for(fault: Fault, request: pytest.FixtureRequest) -> None:
    """Impatience, if it takes some to see the fault."""
    if fault is hang:
        request.getfixturevalue("impatience")


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has clients wait for an answer for a short time only, before they are made."""
    link = "deferrable.aio.backend.sqs._link"
    monkeypatch.setattr(f"{link}.MARGIN_SECONDS", HANG_SECONDS)
    monkeypatch.setattr(f"{link}._LONGEST_WAIT_SECONDS", 0)


@pytest.fixture
def queue(make_backend: Callable[[float], Backend]) -> Queue:
    return make_backend(30).queue


@pytest.fixture
def backend(make_backend: Callable[[float], Backend]) -> Backend:
    """One whose items come back soon."""
    return make_backend(SHORT_LEASE_SECONDS)


def numbered(count: int) -> list[Item]:
    return [{"id": str(number)} for number in range(count)]


async def pop_all(queue: Queue, count: int) -> list[tuple[Envelope, Item]]:
    """Pop until `count` different items have come, and no other ones."""
    popped: dict[str, tuple[Envelope, Item]] = {}

    async def have_all() -> bool:
        # On a busy machine the server may answer later than an impatient client waits.
        with contextlib.suppress(BackendUnavailable):
            for envelope, item in await queue.pop_batch(10):
                popped[item["id"]] = (envelope, item)
        return len(popped) >= count

    await wait_until(have_all, f"{count} items have come")
    assert sorted(popped, key=int) == [str(number) for number in range(count)]
    return [popped[each] for each in sorted(popped, key=int)]


async def filled(queue: Queue, count: int) -> list[Envelope]:
    """Push `count` items and pop them again."""
    assert await queue.push_each(numbered(count)) == [None] * count
    return [envelope for envelope, _ in await pop_all(queue, count)]


async def is_empty(queue: Queue) -> bool:
    """Whether nothing is there, now or when what is hidden by nobody's doing comes back."""
    stats = await queue.stats()
    return stats["available"] == stats["in_flight"] == stats["delayed"] == 0


VERBS = pytest.mark.parametrize(
    ("verb", "action"),
    [("push", SEND), ("complete", DELETE), ("touch", CHANGE), ("release", CHANGE)],
)
CALLS = 11


async def subjects_of(verb: str, queue: Queue) -> Sequence[Any]:
    """What `verb` is called with: new items, or envelopes of held ones."""
    await queue.stats()  # The queue is there.
    return numbered(CALLS) if verb == "push" else await filled(queue, CALLS)


async def come_to_its_end(verb: str, queue: Queue) -> None:
    """Wait until each item is where `verb` wants it; what it did twice counts as once."""

    async def has_come() -> bool:
        stats = await queue.stats()
        if verb == "complete":
            return stats["available"] == stats["in_flight"] == 0
        if verb == "touch":
            return stats["in_flight"] == CALLS
        return stats["available"] >= CALLS

    await wait_until(has_come, f"all {CALLS} are where {verb} wants them")


async def call_each(verb: str, queue: Queue, subjects: Sequence[Any]) -> list[Any]:
    """None, or what was raised, for each call; the first goes alone, the rest together."""
    calls = [getattr(queue, verb)(subject) for subject in subjects]
    return await asyncio.gather(*calls, return_exceptions=True)


# One request fails.


@pytest.mark.usefixtures("patience_for")
@VERBS
async def test_call_survives_a_fault(
    queue: Queue, proxy: Proxy, fault: Fault, verb: str, action: str
) -> None:
    subjects = await subjects_of(verb, queue)
    proxy.script(action, forward, fault)

    outcomes = await call_each(verb, queue, subjects)

    assert outcomes == [None] * CALLS
    assert proxy.is_script_played
    await come_to_its_end(verb, queue)


@pytest.mark.usefixtures("patience_for")
async def test_pop_survives_a_fault(backend: Backend, proxy: Proxy, fault: Fault) -> None:
    queue = backend.queue
    await queue.push_each(numbered(3))
    proxy.script(RECEIVE, fault)

    with pytest.raises(BackendUnavailable):
        await queue.pop_batch(10)

    assert proxy.is_script_played
    await pop_all(queue, 3)


async def test_call_that_is_never_answered_ends_as_unavailable(
    queue: Queue, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deferrable.aio.backend.sqs._link._PATIENCE_SECONDS", 0.5)
    await queue.push({"id": "0"})
    proxy.script(SEND, answer(503, "ServiceUnavailable"), times=1000)

    with pytest.raises(BackendUnavailable, match="ServiceUnavailable"):
        await queue.push({"id": "1"})

    assert proxy.counts[SEND] < 20


async def test_call_whose_answer_comes_byte_by_byte_ends_as_unavailable(
    sqs_server: SQSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deferrable.aio.backend.sqs._link._LONGEST_SECONDS", 0.5)
    monkeypatch.setattr("deferrable.aio.backend.sqs._link._PATIENCE_SECONDS", 0)

    writers: list[asyncio.StreamWriter] = []

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        write_on(writer)

    def write_on(writer: asyncio.StreamWriter) -> None:
        if not writer.is_closing():
            writer.write(b" ")
            asyncio.get_running_loop().call_later(0.05, write_on, writer)

    async with await asyncio.start_server(trickle, "127.0.0.1") as server:
        url = "http://{}:{}".format(*server.sockets[0].getsockname())
        factory = SQSBackendFactory(sqs_server.connection(url), queue_url=f"{url}/1/name")
        async with factory.create_backend_for_group("name") as backend:
            with pytest.raises(BackendUnavailable):
                await backend.queue.push({"id": "0"})
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.mark.parametrize("ask", ["flush", "stats", "locate"])
async def test_page_of_a_login_is_no_answer(
    queue: Queue, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    monkeypatch.setattr("deferrable.aio.backend.sqs._link._PATIENCE_SECONDS", 0)
    await queue.push({"id": "0"})
    for action in ("PurgeQueue", "GetQueueAttributes"):
        proxy.script(action, answer(200, "Sign in", is_html=True))

    with pytest.raises(BackendUnavailable, match="text/html instead of JSON"):
        await getattr(queue, ask)()


def sizes_sent(proxy: Proxy, action: str) -> list[int]:
    return [len(request.entries) for request in proxy.sent(action)]


def places_of_failures(outcomes: list[Any]) -> list[int]:
    return [place for place, outcome in enumerate(outcomes) if outcome is not None]


# Some entries of a batch fail.


@VERBS
@pytest.mark.parametrize("has_effect", [False, True], ids=["undone", "done"])
async def test_entries_that_failed_by_no_fault_of_ours_are_sent_again_alone(
    queue: Queue, proxy: Proxy, verb: str, action: str, has_effect: bool
) -> None:
    subjects = await subjects_of(verb, queue)
    proxy.requests.clear()
    proxy.script(action, forward, fail_entries({1, 4}, is_senders=False, has_effect=has_effect))

    outcomes = await call_each(verb, queue, subjects)

    assert outcomes == [None] * CALLS
    assert sizes_sent(proxy, action) == [1, 10, 2]
    await come_to_its_end(verb, queue)


@VERBS
async def test_entry_that_failed_by_our_fault_fails_its_caller_alone_and_once(
    queue: Queue, proxy: Proxy, verb: str, action: str
) -> None:
    subjects = await subjects_of(verb, queue)
    proxy.requests.clear()
    refuse = fail_entries({1, 4}, "InvalidMessageContents", is_senders=True)
    proxy.script(action, forward, refuse)

    outcomes = await call_each(verb, queue, subjects)

    assert places_of_failures(outcomes) == [2, 5]
    for place in (2, 5):
        assert isinstance(outcomes[place], BackendError)
        assert not isinstance(outcomes[place], BackendUnavailable)
        assert "InvalidMessageContents" in str(outcomes[place])
    assert sizes_sent(proxy, action) == [1, 10]


@VERBS
async def test_entry_that_goes_on_failing_is_unavailable_for_its_caller_alone(
    queue: Queue, proxy: Proxy, verb: str, action: str
) -> None:
    subjects = await subjects_of(verb, queue)
    proxy.script(action, forward, fail_entries({1, 4}, is_senders=False))
    proxy.script(action, fail_entries({0, 1}, is_senders=False), times=100)

    outcomes = await call_each(verb, queue, subjects)

    assert places_of_failures(outcomes) == [2, 5]
    assert all(isinstance(outcomes[place], BackendUnavailable) for place in (2, 5))


@VERBS
async def test_batch_that_is_refused_whole_is_tried_entry_by_entry(
    queue: Queue, proxy: Proxy, verb: str, action: str
) -> None:
    subjects = await subjects_of(verb, queue)
    proxy.requests.clear()
    proxy.script(action, forward, answer(400, "BatchRequestTooLong"))

    outcomes = await call_each(verb, queue, subjects)

    assert outcomes == [None] * CALLS
    assert sizes_sent(proxy, action) == [1, 10, *[1] * 10]
    await come_to_its_end(verb, queue)


@pytest.mark.parametrize("verb", ["complete", "touch", "release"])
@pytest.mark.parametrize(
    "code",
    [
        "ReceiptHandleIsInvalid",
        "AWS.SimpleQueueService.MessageNotInflight",
        "MessageNotInflight",
        "InvalidParameterValue",
    ],
)
async def test_lost_handle_loses_the_lease_of_its_caller_alone_and_is_never_tried_again(
    queue: Queue, proxy: Proxy, verb: str, code: str
) -> None:
    action = DELETE if verb == "complete" else CHANGE
    envelopes = await filled(queue, CALLS)
    proxy.requests.clear()
    proxy.script(action, forward, fail_entries({1, 4}, code, is_senders=True))

    outcomes = await call_each(verb, queue, envelopes)

    assert places_of_failures(outcomes) == [2, 5]
    assert all(isinstance(outcomes[place], LeaseLost) for place in (2, 5))
    assert sizes_sent(proxy, action) == [1, 10]


# Deliveries.


async def test_message_that_comes_twice_in_one_answer_can_be_settled_twice(
    queue: Queue, proxy: Proxy
) -> None:
    await queue.push_each(numbered(3))
    proxy.script(RECEIVE, add_duplicates)

    popped = await queue.pop_batch(10)
    completed = await queue.complete_batch([envelope for envelope, _ in popped])

    assert [item["id"] for _, item in popped] == ["0", "1", "2"] * 2
    assert [ok for _, ok in completed[:3]] == [True] * 3
    assert await is_empty(queue)


def script_everything(proxy: Proxy) -> None:
    """Let each action that a producer and a worker need meet every fault, one after another."""
    again = redeliver()
    for action in (SEND, DELETE, RECEIVE):
        for fault in FAULTS.values():
            proxy.script(action, fault, forward)
    for action in (SEND, DELETE):
        proxy.script(action, fail_entries({0, 3, 7}, is_senders=False))
    proxy.script(RECEIVE, reverse, add_duplicates, again, again)


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("retried", [0, 3])
async def test_no_job_is_lost_whatever_happens_to_its_requests(
    backend: Backend, proxy: Proxy, retried: int
) -> None:
    await backend.queue.stats()
    instance = Deferrable(backend, default_error_classes=[ValueError])
    runs: list[int] = []
    ended: list[int] = []

    @instance.deferrable(name="job", use_exponential_backoff=False)
    async def job(number: int) -> None:
        runs.append(number)
        if number < retried and runs.count(number) == 1:
            raise ValueError(number)
        ended.append(number)

    script_everything(proxy)
    count = 60
    for start in range(0, count, 3):
        await job.later_many_async([(number,) for number in range(start, start + 3)])
    async with instance.worker(concurrency=3) as worker:
        async for outcome in worker:
            assert outcome.status in ("completed", "retried", "lost")
            if len(set(ended)) == count:
                break

    assert set(ended) == set(range(count))
    assert proxy.is_script_played
    proxy.clear()
    await wait_until(lambda: is_empty_but_for_duplicates(backend.queue), "nothing is left")
    assert (await backend.error_queue.stats())["available"] == 0


async def is_empty_but_for_duplicates(queue: Queue) -> bool:
    for envelope, item in await queue.pop_batch(10):
        assert item["method"] == "job"
        await queue.complete(envelope)
    return await is_empty(queue)
