"""What Sentry gets: events, their scopes, and traces, at a transport that keeps them."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from faces import Face, How, Kind, as_kind, run
from processes import run_program
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from deferrable import Retry
from deferrable._extras import install_command
from deferrable.aio import Deferrable
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.contrib.sentry import instrument

pytestmark = pytest.mark.anyio


class Sent(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__({"dsn": "http://key@localhost/1"})
        self.items: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            event = item.get_event() or item.get_transaction_event()
            if event is not None:
                self.items.append(event)

    @property
    def events(self) -> list[Any]:
        return [each for each in self.items if each.get("type") != "transaction"]

    def transactions(self, op: str) -> list[Any]:
        found = [each for each in self.items if each.get("type") == "transaction"]
        return [each for each in found if each["contexts"]["trace"]["op"] == op]


@pytest.fixture
def sent() -> Iterator[Sent]:
    transport = Sent()
    sentry_sdk.init(
        "http://key@localhost/1",
        transport=transport,
        traces_sample_rate=1.0,
        default_integrations=False,  # others change more of this process than the tests need
        integrations=[LoggingIntegration(), DedupeIntegration()],
    )
    with sentry_sdk.isolation_scope():
        yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def fail() -> None:
    raise ValueError("no")


def retry() -> None:
    raise Retry(after_seconds=5)


async def test_a_failure_for_good_is_one_event_with_its_job(
    face: Face, kind: Kind, how: How, sent: Sent
) -> None:
    instrument(face.instance)
    receipt = await face.later(face.job(as_kind(kind, fail), name="app:work"))
    await run(face, how)

    (event,) = sent.events
    assert event["exception"]["values"][-1]["value"] == "no"
    assert event["tags"]["deferrable.job"] == "app:work"
    assert event["contexts"]["deferrable"] == {"job": "app:work", "id": receipt.id, "attempt": 1}
    assert event["transaction"] == "app:work"


@pytest.mark.parametrize(
    ("work", "options"), [(fail, {"error_classes": [ValueError]}), (retry, {}), (lambda: 1, {})]
)
async def test_a_retry_is_no_event(
    face: Face, kind: Kind, how: How, sent: Sent, work: Callable[[], Any], options: Any
) -> None:
    instrument(face.instance)
    await face.later(face.job(as_kind(kind, work), name="work", **options))
    await run(face, how)

    assert sent.events == []


async def test_failures_that_are_retried_can_be_events(face: Face, sent: Sent) -> None:
    instrument(face.instance, sends_retries=True)
    await face.later(face.job(fail, name="work", error_classes=[ValueError]))
    await face.later(face.job(retry, name="again"))
    await face.run()
    await face.run()

    assert len(sent.events) == 1


async def test_an_item_that_cannot_be_read_is_an_event(face: Face, how: How, sent: Sent) -> None:
    instrument(face.instance)
    await face.broker.queue.push({"id": "1", "serializer": "unknown"})
    await run(face, how)

    (event,) = sent.events
    assert event["tags"]["deferrable.job"] == "(unknown)"


async def test_breadcrumbs_are_those_of_the_attempt_alone(
    face: Face, kind: Kind, how: How, sent: Sent
) -> None:
    instrument(face.instance)

    def work(name: str) -> None:
        sentry_sdk.add_breadcrumb(message=name)
        sentry_sdk.set_tag(name, "yes")
        raise ValueError(name)

    job = face.job(as_kind(kind, work), name="work")
    sentry_sdk.add_breadcrumb(message="before")
    for name in ("first", "second"):
        await face.later(job, name)
        await run(face, how)

    crumbs = [[each["message"] for each in event["breadcrumbs"]["values"]] for event in sent.events]
    assert crumbs == [["first"], ["second"]]
    assert "first" not in sent.events[1]["tags"]
    # Nothing of a job stays for what the process does next.
    sentry_sdk.capture_message("later")
    assert not {"first", "second", "deferrable.job"} & set(sent.events[2].get("tags", {}))


async def test_the_trace_goes_on_from_the_request_to_the_job(
    face: Face, kind: Kind, how: How, sent: Sent
) -> None:
    instrument(face.instance)
    with sentry_sdk.start_transaction(op="http.server", name="request"):
        receipt = await face.later(face.job(as_kind(kind, lambda: 1), name="work"))
    await run(face, how)

    (request,) = sent.transactions("http.server")
    (process,) = sent.transactions("queue.process")
    (publish,) = [each for each in request["spans"] if each["op"] == "queue.publish"]
    assert process["contexts"]["trace"]["trace_id"] == request["contexts"]["trace"]["trace_id"]
    assert process["contexts"]["trace"]["parent_span_id"] == publish["span_id"]
    assert publish["data"]["messaging.message.id"] == receipt.id
    data = process["contexts"]["trace"]["data"]
    assert data["messaging.message.id"] == receipt.id
    assert data["messaging.message.retry.count"] == 0
    assert data["messaging.message.receive.latency"] == 0
    assert data["messaging.destination.name"] == "deferrable"
    assert process["contexts"]["trace"]["status"] == "ok"


async def test_an_event_belongs_to_the_span_of_its_job(
    face: Face, kind: Kind, how: How, sent: Sent
) -> None:
    instrument(face.instance)
    with sentry_sdk.start_transaction(op="http.server", name="request"):
        await face.later(face.job(as_kind(kind, fail), name="app:work"))
    await run(face, how)

    (event,) = sent.events
    (process,) = sent.transactions("queue.process")
    trace = event["contexts"]["trace"]
    assert event["transaction"] == "app:work"  # not that of a request that this process served
    assert trace["trace_id"] == process["contexts"]["trace"]["trace_id"]
    assert trace["span_id"] == process["contexts"]["trace"]["span_id"]


async def test_each_tick_has_a_trace_of_its_own(sent: Sent) -> None:
    shop = Deferrable(InMemoryBackendFactory().create_backend_for_group("shop"))
    instrument(shop)
    shop.periodic(every_seconds=1)(as_kind("async", fail))
    async with shop.worker() as worker:
        async for _ in worker:
            if len(sent.events) == 2:
                worker.stop()

    traces = [each["contexts"]["trace"] for each in sent.transactions("queue.process")]
    assert len({each["trace_id"] for each in traces}) == len(traces) >= 2
    assert {each["parent_span_id"] for each in traces} == {None}


async def test_latency_is_in_milliseconds(face: Face, sent: Sent) -> None:
    instrument(face.instance)
    await face.later(face.job(lambda: 1, name="work"))
    face.clock.advance(1.5)
    await face.run()

    (process,) = sent.transactions("queue.process")
    data = process["contexts"]["trace"]["data"]
    assert data["messaging.message.receive.latency"] == pytest.approx(1500)


async def test_headers_do_not_grow_with_retries(face: Face, sent: Sent) -> None:
    instrument(face.instance)
    with sentry_sdk.start_transaction(op="http.server", name="request"):
        await face.later(face.job(retry, name="work"))
    sizes = set()
    for _ in range(3):
        await face.run()
        face.clock.advance(10)
        envelope, item = await face.broker.queue.pop()
        assert envelope is not None
        assert item is not None
        sizes.add(len(str(item["encoded_metadata"])))
        await face.broker.queue.release(envelope)

    assert len(sizes) == 1


async def test_an_event_without_tracing_still_has_its_job(face: Face, how: How, sent: Sent) -> None:
    sentry_sdk.get_client().options["traces_sample_rate"] = None
    instrument(face.instance)
    await face.later(face.job(as_kind("plain", fail), name="work"))
    await run(face, how)

    assert sent.events[0]["tags"]["deferrable.job"] == "work"
    assert sent.transactions("queue.process") == []


async def test_other_errors_that_the_library_logs_are_events_still(sent: Sent) -> None:
    instrument(Face("awaiting").instance)
    logging.getLogger("deferrable").error("cannot be polled")

    assert sent.events[0]["logentry"]["message"] == "cannot be polled"


async def test_no_argument_is_sent(face: Face, sent: Sent) -> None:
    instrument(face.instance)
    sentry_sdk.get_client().options["include_local_variables"] = False

    def work(card: str) -> None:
        raise ValueError("declined")

    card = str(41 * 10**6 + 7)  # events hold lines of the source
    await face.later(face.job(work), card)
    await face.run()

    assert len(sent.events) == 1
    assert card not in repr(sent.items)


@pytest.mark.parametrize("metadata", [7, {"sentry-trace": 5, "baggage": []}, {"sentry-trace": "x"}])
async def test_metadata_that_others_wrote_never_fails_a_job(
    face: Face, how: How, sent: Sent, metadata: Any
) -> None:
    instrument(face.instance)
    await face.later(face.job(as_kind("plain", lambda: 1), name="work"))
    item = await face.take()
    assert item is not None
    encoded = face.instance.serializer.dump_value(metadata)
    await face.broker.queue.push({**item, "encoded_metadata": {"sentry": encoded}})
    outcome = await run(face, how)

    assert outcome.status == "completed"


async def test_without_init_nothing_happens(face: Face, kind: Kind, how: How) -> None:
    instrument(face.instance)
    await face.later(face.job(as_kind(kind, fail), name="work"))

    assert (await run(face, how)).status == "errored"


def test_a_missing_extra_is_named() -> None:
    (message,) = run_program(
        """
        import sys
        sys.modules["sentry_sdk"] = None
        try:
            import deferrable.contrib.sentry
        except ImportError as error:
            print(error)
        """
    )

    assert install_command("sentry") in message
