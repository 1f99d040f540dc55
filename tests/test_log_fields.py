"""The job, its item, its attempt and the correlation id in every line that a job logs."""

import contextvars
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog
from faces import Face, How, Kind, as_kind, run
from processes import run_program

from deferrable import Retry
from deferrable._extras import install_command
from deferrable.contrib.correlation import (
    CorrelationId,
    TraceParent,
    correlation_id,
    traceparent,
)
from deferrable.contrib.logging import AttemptFilter
from deferrable.contrib.structlog import instrument

pytestmark = pytest.mark.anyio

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What is logged, with the filter."""
    kept: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    handler = Keep()
    handler.addFilter(AttemptFilter())
    logger = logging.getLogger("app")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield kept
    logger.removeHandler(handler)


def fields(record: Any) -> tuple[Any, ...]:
    return record.job, record.item_id, record.attempt, record.correlation_id


def log_and_retry() -> None:
    logging.getLogger("app.part").info("hello")
    raise Retry(after_seconds=60)


async def test_standard_logging_has_the_fields_of_the_attempt(
    face: Face, kind: Kind, how: How, records: list[logging.LogRecord]
) -> None:
    face.instance.register_metadata_producer_consumer(CorrelationId())
    job = face.job(as_kind(kind, log_and_retry), name="app:work")
    token = correlation_id.set("request-7")
    receipt = await face.later(job)
    correlation_id.reset(token)
    for _ in range(2):
        await run(face, how)
        face.clock.advance(61)
    logging.getLogger("app").info("outside")

    assert [fields(each) for each in records] == [
        ("app:work", receipt.id, 1, "request-7"),
        ("app:work", receipt.id, 2, "request-7"),
        (None, None, None, None),
    ]


async def test_fields_that_a_record_has_are_kept(records: list[logging.LogRecord]) -> None:
    logging.getLogger("app").info("x", extra={"job": "mine"})

    assert records[0].job == "mine"  # type: ignore[attr-defined]


async def test_structlog_has_the_fields_of_the_attempt(face: Face, kind: Kind, how: How) -> None:
    lines: list[Any] = []
    logger = structlog.wrap_logger(
        None,
        processors=[structlog.contextvars.merge_contextvars, keep_in(lines)],
    )

    def work() -> None:
        logger.info("hello")
        raise Retry(after_seconds=60)

    instrument(face.instance)
    face.instance.register_metadata_producer_consumer(CorrelationId())
    token = correlation_id.set("request-7")
    receipt = await face.later(face.job(as_kind(kind, work), name="app:work"))
    correlation_id.reset(token)
    for _ in range(2):
        await run(face, how)
        face.clock.advance(61)
    logger.info("outside")

    assert lines[:2] == [
        {
            "event": "hello",
            "job": "app:work",
            "item_id": receipt.id,
            "attempt": attempt,
            "correlation_id": "request-7",
        }
        for attempt in (1, 2)
    ]
    assert lines[2] == {"event": "outside"}


def keep_in(lines: list[Any]) -> Any:
    def keep(logger: object, name: str, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    return keep


async def test_a_call_without_a_correlation_id_gets_one_for_all_its_attempts(
    face: Face, kind: Kind, how: How
) -> None:
    seen = []

    def work() -> None:
        seen.append(correlation_id.get())
        raise Retry(after_seconds=60)

    face.instance.register_metadata_producer_consumer(CorrelationId())
    await face.later(face.job(as_kind(kind, work), name="work"))
    for _ in range(2):
        await run(face, how)
        face.clock.advance(61)

    assert seen[0] == seen[1]
    assert isinstance(seen[0], str)


async def test_your_own_variable_can_hold_the_id(face: Face, kind: Kind) -> None:
    own: contextvars.ContextVar[str | None] = contextvars.ContextVar("own", default=None)
    seen = []
    face.instance.register_metadata_producer_consumer(CorrelationId(own))
    own.set("request-8")
    await face.later(face.job(as_kind(kind, lambda: seen.append(own.get())), name="work"))
    own.set(None)
    await face.run()

    assert seen == ["request-8"]


async def test_an_id_that_is_no_text_is_kept(face: Face) -> None:
    mine: contextvars.ContextVar[Any] = contextvars.ContextVar("mine", default=None)
    face.instance.register_metadata_producer_consumer(CorrelationId(mine))
    lines: list[Any] = []
    job = face.job(lambda: lines.append(mine.get()), name="work")
    request_ids = [UUID(int=7), 42]
    for each in request_ids:
        mine.set(each)
        await face.later(job)
        await face.run()

    assert lines == [str(each) for each in request_ids]


@pytest.mark.parametrize("metadata", [7, None, "a\nb", "\x1b[31m", "x" * 5000, {}])
def test_a_correlation_id_is_one_short_line_or_none(metadata: Any) -> None:
    def consume() -> str | None:
        CorrelationId().consume_metadata(metadata)
        return correlation_id.get()

    text = contextvars.copy_context().run(consume)

    assert text is None or (text.isprintable() and len(text) <= 200)


async def test_a_traceparent_reaches_the_job(face: Face, kind: Kind, how: How) -> None:
    seen = []
    face.instance.register_metadata_producer_consumer(TraceParent())
    job = face.job(as_kind(kind, lambda: seen.append(traceparent.get())), name="work")
    token = traceparent.set(GOOD)
    await face.later(job)
    traceparent.reset(token)
    await run(face, how)
    await face.later(job)
    await run(face, how)

    assert seen == [GOOD, None]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.upper(),
        f"{GOOD}-00",
        f"ff{GOOD[2:]}",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        f"{GOOD}\n",
        7,
        None,
    ],
)
def test_a_traceparent_that_is_none_is_dropped(text: Any) -> None:
    def consume() -> str | None:
        TraceParent().consume_metadata(text)
        return traceparent.get()

    assert contextvars.copy_context().run(consume) is None


def test_a_missing_extra_is_named() -> None:
    (message,) = run_program(
        """
        import sys
        sys.modules["structlog"] = None
        import deferrable.contrib.logging
        try:
            import deferrable.contrib.structlog
        except ImportError as error:
            print(error)
        """
    )

    assert install_command("structlog") in message
