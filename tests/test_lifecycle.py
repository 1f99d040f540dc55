"""What happens to an item: decided without I/O."""

import json
from collections.abc import Collection
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferrable.errors import UnreadableItem
from deferrable.item import Item, copy_item
from deferrable.lifecycle import (
    Bury,
    Hop,
    RetryLater,
    Verdict,
    after_error,
    before_run,
    bury,
    error_record,
    requeued,
    shortened,
)
from deferrable.retry import Retry

NOW = 1_000_000.0


def draw_half() -> float:
    return 0.5


def decide(
    item: Item,
    error: BaseException | None = None,
    *,
    is_retriable: bool = True,
    max_delay_seconds: float = 1e9,
    hides_early: bool = False,
    retry_names: Collection[str] = (),
) -> Verdict:
    return after_error(
        item,
        ValueError("no") if error is None else error,
        is_retriable=is_retriable,
        now=NOW,
        draw=draw_half,
        max_delay_seconds=max_delay_seconds,
        hides_early=hides_early,
        hostname="here",
        retry_names=retry_names,
    )


def item_with(**fields: Any) -> Item:
    return {"id": "1", "attempts": 0, "max_attempts": 5, "use_exponential_backoff": True, **fields}


def test_an_item_that_is_due_is_run() -> None:
    assert before_run({"due_time": NOW}, NOW, 900) is None
    assert before_run({}, NOW, 900) is None


def test_an_item_that_is_not_due_is_sent_on_for_the_rest() -> None:
    item = {"id": "1", "due_time": NOW + 60}

    hop = before_run(item, NOW, 900)

    assert hop == Hop({"id": "1", "due_time": NOW + 60, "delay": 60})
    assert item == {"id": "1", "due_time": NOW + 60}


def test_an_item_that_is_due_long_after_goes_as_far_as_the_broker_takes_it() -> None:
    hop = before_run({"due_time": NOW + 2000}, NOW, 900)

    assert hop == Hop({"due_time": NOW + 2000, "delay": 900})


def test_an_item_of_a_queue_that_keeps_delays_is_due_whatever_its_producer_wrote() -> None:
    assert before_run({"due_time": NOW + 2000}, NOW, 900, is_due=True) is None


def test_a_due_time_that_is_no_number_is_unreadable_wherever_it_was_kept() -> None:
    with pytest.raises(UnreadableItem):
        before_run({"due_time": "soon"}, NOW, 900, is_due=True)


def test_a_retry_counts_the_attempt_and_waits_for_its_backoff() -> None:
    verdict = decide(item_with(attempts=2))

    assert isinstance(verdict, RetryLater)
    assert verdict.seconds == 10
    assert verdict.item["attempts"] == 3
    assert verdict.item["delay"] == 10
    assert verdict.item["due_time"] == NOW + 10
    assert verdict.item["last_push_time"] == NOW + 10


def test_a_retry_without_backoff_has_no_delay_at_all() -> None:
    verdict = decide(item_with(use_exponential_backoff=False, delay=5, due_time=NOW - 1))

    assert isinstance(verdict, RetryLater)
    assert verdict.seconds == 0
    assert not {"delay", "due_time"} & verdict.item.keys()
    assert verdict.item["last_push_time"] == NOW


def test_a_retry_with_jitter_draws_between_half_and_all_of_the_backoff() -> None:
    verdict = decide(item_with(backoff_jitter=True))

    assert isinstance(verdict, RetryLater)
    assert verdict.seconds == 3


def test_a_retry_on_a_queue_that_cannot_delay_is_available_at_once() -> None:
    verdict = decide(item_with(), max_delay_seconds=0)

    assert isinstance(verdict, RetryLater)
    assert "delay" not in verdict.item


def test_a_retry_waits_where_who_pops_it_early_hides_it_for_the_rest() -> None:
    verdict = decide(item_with(), max_delay_seconds=0, hides_early=True)

    assert isinstance(verdict, RetryLater)
    assert verdict.seconds == 4
    assert verdict.item["due_time"] == NOW + 4
    assert "delay" not in verdict.item


def test_a_backoff_over_the_brokers_maximum_keeps_its_due_time() -> None:
    verdict = decide(item_with(attempts=8, max_attempts=20), max_delay_seconds=60)

    assert isinstance(verdict, RetryLater)
    assert verdict.item["delay"] == 60
    assert verdict.item["due_time"] == NOW + 514


@given(st.integers(min_value=1, max_value=50))
def test_max_attempts_is_the_total_number_of_executions(max_attempts: int) -> None:
    item, executions = item_with(max_attempts=max_attempts), 1

    while isinstance(verdict := decide(item), RetryLater):
        item, executions = verdict.item, executions + 1

    assert executions == max_attempts
    assert verdict.item["attempts"] == max_attempts - 1  # those of its last execution


def test_an_error_of_another_class_is_buried_at_once() -> None:
    verdict = decide(item_with(), is_retriable=False)

    assert isinstance(verdict, Bury)
    assert verdict.item["error"]["error_type"] == "ValueError"
    assert verdict.item["attempts"] == 0


def test_an_item_without_a_maximum_is_not_retried() -> None:
    assert isinstance(decide({"id": "1"}), Bury)


def test_an_asked_retry_needs_no_error_class() -> None:
    verdict = decide(item_with(), Retry(after_seconds=7), is_retriable=False)

    assert isinstance(verdict, RetryLater)
    assert (verdict.seconds, verdict.item["attempts"]) == (7, 1)


def test_an_asked_retry_after_zero_seconds_is_available_at_once() -> None:
    verdict = decide(item_with(), Retry(after_seconds=0))

    assert isinstance(verdict, RetryLater)
    assert "delay" not in verdict.item


def test_an_asked_retry_without_seconds_waits_for_the_backoff() -> None:
    verdict = decide(item_with(attempts=1), Retry())

    assert isinstance(verdict, RetryLater)
    assert verdict.seconds == 6


def test_an_uncounted_retry_leaves_the_attempts_and_waits_like_a_counted_one() -> None:
    verdict = decide(item_with(), Retry(count=False))

    assert isinstance(verdict, RetryLater)
    assert (verdict.seconds, verdict.item["attempts"]) == (4, 0)


def test_an_uncounted_retry_never_runs_out_of_attempts() -> None:
    verdict = decide(item_with(attempts=4, max_attempts=5), Retry(count=False))

    assert isinstance(verdict, RetryLater)


def test_an_asked_retry_out_of_attempts_records_its_cause() -> None:
    asked = Retry()
    asked.__cause__ = KeyError("the cause")

    verdict = decide(item_with(max_attempts=1), asked)

    assert isinstance(verdict, Bury)
    assert verdict.item["error"]["error_type"] == "KeyError"


def test_an_asked_retry_out_of_attempts_records_itself_if_it_has_no_cause() -> None:
    verdict = decide(item_with(max_attempts=1), Retry(after_seconds=3))

    assert isinstance(verdict, Bury)
    assert verdict.item["error"]["error_type"] == "Retry"
    assert "3 s" in verdict.item["error"]["error_text"]


@pytest.mark.parametrize("after_seconds", [-1, float("nan"), float("inf")])
def test_a_retry_after_no_possible_time_is_refused(after_seconds: float) -> None:
    with pytest.raises(ValueError, match="after_seconds"):
        Retry(after_seconds=after_seconds)


def test_a_retry_that_could_not_start_before_the_ttl_ends_is_buried_with_its_error() -> None:
    item = item_with(ttl_seconds=10, item_queued_timestamp=NOW - 6.5)

    verdict = decide(item)

    assert isinstance(verdict, Bury)
    assert verdict.item["error"]["error_text"] == "no"


def test_a_retry_that_could_start_at_the_end_of_the_ttl_is_scheduled() -> None:
    verdict = decide(item_with(ttl_seconds=10, item_queued_timestamp=NOW - 6))

    assert isinstance(verdict, RetryLater)
    assert verdict.item["item_queued_timestamp"] == NOW - 6


@pytest.mark.parametrize("field", ["attempts", "max_attempts", "ttl_seconds"])
def test_fields_of_the_wrong_kind_are_unreadable_and_named(field: str) -> None:
    item = item_with(item_queued_timestamp=NOW, **{"ttl_seconds": 1, field: "many"})

    with pytest.raises(UnreadableItem, match=field):
        decide(item)


def test_no_decision_changes_the_item_and_every_one_keeps_unknown_fields() -> None:
    item = item_with(metadata={"a": ["x"]}, unknown={"deep": [1, {"two": 2}]})
    before = json.dumps(item)

    copies = [
        decide(item).item,
        decide(item, is_retriable=False).item,
        requeued(item, NOW),
    ]
    for copy in copies:
        copy["unknown"]["deep"][1]["two"] = "changed"

    assert json.dumps(item) == before


def test_a_buried_item_is_not_delayed() -> None:
    buried = bury(item_with(delay=5, due_time=NOW), ValueError(), NOW, "here").item

    assert not {"delay", "due_time"} & buried.keys()
    assert buried["last_push_time"] == NOW


def test_a_requeued_item_starts_again_under_its_id() -> None:
    item = item_with(attempts=4, ttl_seconds=5, item_queued_timestamp=1, delay=0, error={"a": 1})

    again = requeued(item, NOW)

    assert again == item_with(
        attempts=0, ttl_seconds=5, item_queued_timestamp=NOW, last_push_time=NOW
    )


def test_a_requeued_item_without_a_ttl_gets_none() -> None:
    assert "item_queued_timestamp" not in requeued(item_with(), NOW)


def test_an_error_record_tells_what_the_old_library_told() -> None:
    try:
        raise ValueError("wrong")
    except ValueError as error:
        record = error_record(error, NOW, "here")

    assert set(record) == {"error_type", "error_text", "traceback", "hostname", "ts", "id"}
    assert record["error_type"] == "ValueError"
    assert record["error_text"] == "wrong"
    assert 'raise ValueError("wrong")' in record["traceback"]
    assert (record["hostname"], record["ts"]) == ("here", NOW)


def test_a_record_of_a_huge_error_keeps_the_start_of_its_text_and_the_end_of_its_traceback() -> (
    None
):
    record = error_record(ValueError("first" + "x" * 1_000_000 + "last"), NOW, "here")

    assert record["error_text"].startswith("first")
    assert record["error_text"].endswith("... (990009 characters cut)")
    assert record["traceback"].startswith("... (9")
    assert record["traceback"].endswith("last\n")
    assert len(record["error_text"]) < 10_100
    assert len(record["traceback"]) < 20_100


def reason_of(verdict: Verdict) -> str:
    assert isinstance(verdict, Bury)
    assert verdict.item["error"]["reason"] == verdict.reason
    return verdict.reason


@pytest.mark.parametrize(
    ("retry_names", "told"),
    [
        ([], "none"),
        (["builtins:OSError", "app.jobs:Busy", "__main__:Busy"], "Busy, OSError"),
        ([f"app:E{n:02}" for n in range(30)], ", ".join([*(f"E{n:02}" for n in range(10)), "..."])),
    ],
)
def test_an_error_of_another_class_is_buried_with_the_classes_that_are_retried(
    retry_names: list[str], told: str
) -> None:
    verdict = decide(item_with(), KeyError("x"), is_retriable=False, retry_names=retry_names)

    assert reason_of(verdict) == f"KeyError is not among its error_classes ({told})"


def test_the_last_attempt_is_buried_with_how_many_there_were() -> None:
    assert reason_of(decide(item_with(attempts=4))) == "no attempt left (5 of 5)"


def test_a_retry_after_the_end_of_the_ttl_is_buried_with_that_reason() -> None:
    item = item_with(ttl_seconds=3, item_queued_timestamp=NOW)

    assert reason_of(decide(item)) == (
        "its ttl would end before the next attempt, 4.0 s from now (ttl_seconds is 3)"
    )


def test_a_record_without_a_reason_has_no_such_field() -> None:
    assert "reason" not in error_record(ValueError(), NOW, "here")


class _Unspeakable(Exception):
    def __init__(self, second: BaseException) -> None:
        self.second = second

    def __str__(self) -> NoReturn:
        raise self.second

    def __eq__(self, other: object) -> NoReturn:
        raise self.second

    def __hash__(self) -> NoReturn:
        raise self.second


@pytest.mark.parametrize("second", [ValueError(), SystemExit(), StopIteration(), RecursionError()])
def test_an_error_without_a_text_is_recorded_all_the_same(second: BaseException) -> None:
    record = error_record(_Unspeakable(second), NOW, "here")

    assert record["error_type"] == "_Unspeakable"
    assert type(second).__name__ in record["error_text"]
    assert "_Unspeakable" in record["traceback"]


@given(st.text(alphabet=st.characters(categories=["Cs", "L", "Cc"])))
def test_every_text_of_an_error_can_be_encoded(text: str) -> None:
    record = error_record(ValueError(text), NOW, "here")

    json.dumps(record, ensure_ascii=False).encode()


def test_a_text_that_cannot_be_encoded_is_replaced_character_by_character() -> None:
    record = error_record(ValueError("a\ud800b\udfffc"), NOW, "here")

    assert record["error_text"] == "a?b?c"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_copy_of_an_item_is_equal_and_shares_no_container(item: Item) -> None:
    copy = copy_item(item)

    assert copy == item
    assert not _containers(copy) & _containers(item)


def test_an_item_may_be_nested_deeper_than_the_stack() -> None:
    nested: list[Any] = []
    item: Item = {"nested": nested}
    for _ in range(100_000):
        nested.append([])
        nested = nested[0]

    copy = copy_item(item)

    depth, level = 0, copy["nested"]
    while level:
        depth, level = depth + 1, level[0]
    assert depth == 100_000


def _containers(value: Any) -> set[int]:
    if isinstance(value, dict):
        return {id(value)}.union(*map(_containers, value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*map(_containers, value))
    return set()


def buried_with(traceback: str, text: str = "why") -> Item:
    item = bury(item_with(args="call" * 10), ValueError(text), NOW, "here").item
    return {**item, "error": {**item["error"], "traceback": traceback}}


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(), st.integers(0, 300))
def test_what_is_shortened_has_the_call_and_as_many_bytes_less_as_it_can(
    traceback: str, text: str, excess: int
) -> None:
    item = buried_with(traceback * 10, text)
    before = copy_item(item)

    shorter = shortened(item, excess)

    assert item == before
    assert {**shorter, "error": None} == {**item, "error": None}
    has_more_to_give = bool(shorter["error"]["traceback"] or shorter["error"]["error_text"])
    less = len(json.dumps(item)) - len(json.dumps(shorter))
    assert less >= excess or not has_more_to_give


def test_what_is_shortened_keeps_the_end_of_its_traceback() -> None:
    item = buried_with("frame " * 1000 + "ValueError: why")

    error = shortened(item, 100)["error"]

    assert error["traceback"].startswith("(shortened) ...")
    assert error["traceback"].endswith("ValueError: why")
    assert error["error_text"] == "why"


def test_what_has_no_error_to_shorten_stays_as_it_is() -> None:
    assert shortened({"id": "1"}, 100) == {"id": "1"}
    assert shortened({"id": "1", "error": "odd"}, 100) == {"id": "1", "error": "odd"}
