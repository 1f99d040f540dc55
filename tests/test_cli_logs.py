"""The log of a worker: what a line holds, and that no text forges one."""

import io
import json
import logging
import logging.config
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferrable.cli.logs import configure, enable_loggers, log_outcome
from deferrable.cli.printing import escaped, json_text, untrusted
from deferrable.outcome import Outcome

RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} (INFO|WARNING|ERROR) +(\[\S+\] )?")
HOSTILE = "x\n2026-11-23 14:24:30 +0000 ERROR forged\r\x1b[2J\x9b31m\x00\x85\u2028\u202e\u2066end"
OBEYED = set("\r\x1b\x9b\x00\x85\u2028\u202e\u2066\x07")


class Log:
    """What is logged, as a worker formats it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.stream = io.StringIO()
        self.logger = logging.getLogger("deferrable.worker")

    def begin(self, log_format: str = "text", process: str = "", level: str = "info") -> None:
        self._monkeypatch.setattr(sys, "stderr", self.stream)
        logging.getLogger().handlers.clear()  # those of pytest
        configure(log_format, level, process)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().split("\n")[:-1]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    known = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for each in known:
        monkeypatch.setattr(each, "disabled", each.disabled)  # other packages' too
    aws = {logging.getLogger(name): logging.NOTSET for name in ("aiobotocore", "botocore", "boto3")}
    before = {logger: logger.level for logger in aws}
    _set_levels(aws)
    yield Log(monkeypatch)
    _set_levels(before)
    root.handlers[:], root.level = handlers, level
    enable_loggers()


def _set_levels(levels: dict[logging.Logger, int]) -> None:
    for logger, level in levels.items():
        logger.setLevel(level)


def broken_with(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_line_has_a_moment_with_its_zone_and_a_level(log: Log) -> None:
    log.begin()

    log.logger.info("hello")

    (line,) = log.lines
    assert RECORD.fullmatch(line.removesuffix("hello"))


def test_a_message_with_line_ends_and_controls_is_one_line_that_moves_no_terminal(
    log: Log,
) -> None:
    log.begin()

    log.logger.warning("told: %s", HOSTILE)

    (line,) = log.lines
    assert r"told: x\n2026" in line
    assert not set(line) & OBEYED


def test_no_line_of_a_traceback_looks_like_a_record(log: Log) -> None:
    log.begin()

    log.logger.error("failed", exc_info=broken_with(HOSTILE))

    first, *others = log.lines
    assert RECORD.match(first)
    assert others[0] == "  | Traceback (most recent call last):"
    assert all(line.startswith("  | ") for line in others)
    assert any("forged" in line for line in others)
    assert not set("".join(others)) & OBEYED


def test_names_and_ids_of_items_make_no_line_of_their_own(log: Log) -> None:
    log.begin()

    log_outcome(Outcome({"id": HOSTILE, "method": HOSTILE, "serializer": "json"}, "completed"))

    (line,) = log.lines
    assert not set(line) & OBEYED


def test_each_line_names_its_process_among_several(log: Log) -> None:
    log.begin(process="2")

    log.logger.info("one")
    log_outcome(Outcome({"id": "1"}, "completed"))

    assert [f"[2:{os.getpid()}] " in line for line in log.lines] == [True, True]


def test_json_log_names_the_process_and_escapes_what_a_terminal_obeys(log: Log) -> None:
    log.begin("json", process="2")

    log.logger.error("told: %s", HOSTILE, exc_info=broken_with(HOSTILE))

    (line,) = log.lines
    entry = json.loads(line)
    assert not set(line) & OBEYED
    assert entry["message"] == f"told: {HOSTILE}"
    assert HOSTILE in entry["traceback"]
    assert (entry["process"], entry["worker"]) == (os.getpid(), "2")


@pytest.mark.parametrize("status", ["retried", "errored", "lost"])
def test_a_failure_that_the_engine_logs_is_not_logged_again(log: Log, status: Any) -> None:
    log.begin()

    log_outcome(Outcome({"id": "1"}, status, ValueError("no")))

    assert log.lines == []


class _Unprintable(Exception):
    def __str__(self) -> NoReturn:
        raise SystemExit("no text")

    __repr__ = __str__


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_record_whose_text_cannot_be_had_is_logged_all_the_same(
    log: Log, log_format: str
) -> None:
    log.begin(log_format)

    log.logger.error("failed: %s", _Unprintable(), exc_info=_Unprintable())

    assert "cannot be formatted with its arguments: SystemExit: no text" in log.lines[0]
    assert "failed: %s" in log.lines[0]


def test_a_worker_logs_on_after_an_application_has_disabled_existing_loggers(log: Log) -> None:
    log.begin()
    root: dict[str, Any] = {"level": "INFO", "handlers": []}
    handlers = logging.getLogger().handlers[:]
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "root": root})
    logging.getLogger().handlers[:] = handlers
    assert logging.getLogger("deferrable").disabled

    log_outcome(Outcome({"id": "1"}, "completed"))
    logging.getLogger("deferrable").warning("from the engine")

    assert [line.rpartition(" ")[2] for line in log.lines] == ["1)", "engine"]


@pytest.mark.parametrize(
    ("level", "shown"), [("info", ["lost"]), ("debug", ["found", "lost"]), ("error", [])]
)
def test_libraries_of_aws_log_warnings_only(log: Log, level: str, shown: list[str]) -> None:
    log.begin(level=level)

    logging.getLogger("botocore.credentials").info("found")
    logging.getLogger("aiobotocore.credentials").warning("lost")

    assert [line.rpartition(" ")[2] for line in log.lines] == shown


@given(st.text())
def test_escaped_text_is_printable_and_printable_text_stays(text: str) -> None:
    shown = escaped(text)

    assert shown.isprintable()
    assert shown == text or not text.isprintable()
    assert untrusted(text).plain == shown


@given(st.recursive(st.text(), st.lists, max_leaves=5))
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_text_can_be_encoded_and_moves_no_terminal(encoding: str, value: Any) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)

    text = json_text(value, stream)

    assert json.loads(text) == value
    assert text.isprintable()
    text.encode(encoding)
