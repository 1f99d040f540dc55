"""The slots: how many items a worker may take, whatever happened before."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from deferrable.aio.worker._slots import Slots


def test_a_free_worker_asks_for_all_its_slots() -> None:
    assert Slots(concurrency=100).to_ask() == 100


def test_a_running_job_takes_a_slot() -> None:
    assert Slots(concurrency=100, running=60).to_ask() == 40


def test_an_item_that_waits_for_a_slot_takes_one() -> None:
    assert Slots(concurrency=100, running=60, buffered=40).to_ask() == 0


def test_a_settlement_that_is_not_answered_takes_no_slot() -> None:
    assert Slots(concurrency=100, settling=1, running=99).is_free


def test_settlements_that_the_broker_does_not_answer_stop_the_popping() -> None:
    assert Slots(concurrency=100, settling=100).to_ask() == 0


def test_a_few_settlements_stop_nothing_however_low_the_concurrency_is() -> None:
    assert Slots(concurrency=1, settling=19).to_ask() == 1
    assert Slots(concurrency=1, settling=20).to_ask() == 0


def test_outcomes_that_nobody_reads_stop_the_popping() -> None:
    assert Slots(concurrency=100, unread=100).to_ask() == 0


def test_queues_that_are_not_polled_share_what_is_free() -> None:
    assert Slots(concurrency=100, pollers=4).to_ask() == 25


def test_the_only_slot_is_asked_for_on_every_queue() -> None:
    slots = Slots(concurrency=1, pollers=2)
    asked = slots.to_ask()
    slots.begin_poll(asked, is_quiet=False)

    assert (asked, slots.to_ask()) == (1, 1)


def test_a_queue_without_work_leaves_the_slots_to_one_with_plenty() -> None:
    slots = Slots(concurrency=100, pollers=2)
    slots.begin_poll(slots.to_ask(), is_quiet=True)

    assert slots.to_ask() == 99


def busy(*, free: int = 0, buffered: int = 0, ended: int = 10) -> Slots:
    """A worker of a hundred slots, where so many jobs ended half a second ago."""
    slots = Slots(concurrency=100, running=100 - free, buffered=buffered)
    for _ in range(ended):
        slots.note_end(9.5)
    return slots


def test_busy_worker_asks_ahead_for_a_full_batch() -> None:
    assert busy().to_ask(10, ahead=10, now=10) == 10


def test_busy_worker_with_something_in_the_buffer_waits_until_a_full_batch_has_room() -> None:
    assert busy(buffered=1).to_ask(10, ahead=10, now=10) == 0


def test_worker_asks_ahead_for_no_more_than_jobs_ended_lately() -> None:
    assert busy(ended=3).to_ask(10, ahead=10, now=10) == 0
    assert busy(ended=3, free=2).to_ask(10, ahead=10, now=10) == 5
    assert busy(free=2).to_ask(10, ahead=10, now=11) == 2


def test_worker_asks_for_full_batches_where_it_can() -> None:
    assert busy(free=27).to_ask(10) == 20
    assert busy(free=27).to_ask(10, ahead=10, now=10) == 30
    assert busy(free=7).to_ask(10) == 7


def test_settlements_that_wait_for_others_do_not_stop_a_small_worker() -> None:
    slots = Slots(concurrency=1, settling=9)
    for _ in range(10):
        slots.note_end(9.5)

    assert slots.to_ask(10, ahead=10, now=10) == 10


UNLIMITED = sys.maxsize


def quick(
    *, concurrency: int = 10, buffered: int = 0, ended: int = 200, prefetch: int = 100
) -> Slots:
    """A worker without a free slot, where so many jobs ended 10 ms before the tenth second."""
    slots = Slots(concurrency, running=concurrency, buffered=buffered, prefetch=prefetch)
    for _ in range(ended):
        slots.note_end(9.99)
    return slots


def test_worker_whose_jobs_end_quickly_asks_for_what_it_may_prefetch() -> None:
    assert quick().to_ask(UNLIMITED, now=10) == 100
    assert quick(concurrency=1).to_ask(UNLIMITED, now=10) == 100
    assert quick(prefetch=0).to_ask(UNLIMITED, now=10) == 0


def test_no_more_is_prefetched_than_jobs_ended_beyond_one_for_each_slot() -> None:
    assert quick(ended=10).to_ask(UNLIMITED, now=10) == 0
    assert quick(ended=17).to_ask(UNLIMITED, now=10) == 7


def test_jobs_that_ended_a_moment_ago_prefetch_nothing() -> None:
    assert quick().to_ask(UNLIMITED, now=10.02) == 0


def test_slow_jobs_that_end_together_prefetch_nothing() -> None:
    assert quick(concurrency=200, ended=200).to_ask(UNLIMITED, now=10) == 0


def test_a_queue_that_may_be_empty_is_not_prefetched_from() -> None:
    assert quick().to_ask(UNLIMITED, is_backlogged=False, now=10) == 0


def test_what_is_prefetched_is_popped_in_batches() -> None:
    assert quick(buffered=51).to_ask(UNLIMITED, now=10) == 0
    assert quick(buffered=50).to_ask(UNLIMITED, now=10) == 50
    assert quick(buffered=91).to_ask(10, now=10) == 0
    assert quick(buffered=85).to_ask(10, now=10) == 10


def test_queues_that_are_polled_ahead_leave_no_crumbs_to_others() -> None:
    slots = quick()
    slots.pollers = 2
    slots.begin_poll(60, is_quiet=False)

    assert slots.to_ask(UNLIMITED, now=10) == 0


def test_a_queue_that_pops_ahead_by_itself_takes_the_larger_number_in_full_batches() -> None:
    assert quick().to_ask(10, ahead=10, now=10) == 100
    assert quick().to_ask(10, ahead=10, now=10.5) == 10
    assert quick(buffered=95).to_ask(10, ahead=10, now=10) == 0


def test_what_is_unsettled_or_unread_may_be_as_much_as_is_prefetched() -> None:
    slots = quick()
    slots.settling, slots.unread = 70, 20

    assert slots.to_ask(UNLIMITED, now=10) == 0

    slots.unread = 0
    slots.settling = 50
    assert slots.to_ask(UNLIMITED, now=10) == 50


def test_a_worker_has_stalled_until_a_job_ends() -> None:
    slots = quick()
    slots.has_stalled = True
    slots.note_end(10)

    assert not slots.has_stalled


def test_ends_that_are_remembered_are_bounded_whatever_is_asked_for() -> None:
    slots = quick(prefetch=sys.maxsize, ended=0)
    for _ in range(20_000):
        slots.note_end(9.99)

    assert len(slots.end_times) == 10_000


counts = st.integers(0, 50)


@given(
    concurrency=st.integers(1, 50),
    pollers=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from(["poll", "land", "end", "settle", "read"]), counts)),
)
def test_what_is_held_is_bounded_whatever_happens(
    concurrency: int, pollers: int, steps: list[tuple[str, int]]
) -> None:
    slots = Slots(concurrency, pollers)
    polls: list[tuple[int, int]] = []
    for step, number in steps:
        if step == "poll" and len(polls) < pollers and (count := slots.to_ask()):
            polls.append((count, slots.begin_poll(count, is_quiet=bool(number % 2))))
        elif step == "land" and polls:
            count, expected = polls.pop()
            slots.end_poll(expected)
            slots.buffered += min(count, number)
        elif step == "end" and slots.running:
            slots.running, slots.settling = slots.running - 1, slots.settling + 1
        elif step == "settle" and slots.settling:
            slots.settling, slots.unread = slots.settling - 1, slots.unread + 1
        elif step == "read" and slots.unread:
            slots.unread -= 1
        while slots.buffered and slots.is_free:
            slots.buffered, slots.running = slots.buffered - 1, slots.running + 1

    assert slots.running <= concurrency
    assert slots.buffered <= pollers * concurrency
    assert slots.settling + slots.unread <= (pollers + 2) * concurrency
    assert slots.asked == sum(expected for _, expected in polls)


def start_all(slots: Slots) -> tuple[int, int]:
    """How many are buffered, and how many run, once every free slot is taken."""
    held = slots.buffered + slots.running
    return max(0, held - slots.concurrency), min(held, slots.concurrency)


@given(
    concurrency=st.integers(1, 5),
    prefetch=st.integers(0, 30),
    pollers=st.integers(1, 3),
    steps=st.lists(st.tuples(st.sampled_from(["poll", "land", "end", "settle", "read"]), counts)),
)
def test_what_is_prefetched_is_bounded_whatever_happens(
    concurrency: int, prefetch: int, pollers: int, steps: list[tuple[str, int]]
) -> None:
    slots = Slots(concurrency, pollers, prefetch=prefetch)
    polls: list[tuple[int, int]] = []
    for step, number in steps:
        if step == "poll" and len(polls) < pollers and (count := slots.to_ask(UNLIMITED)):
            polls.append((count, slots.begin_poll(count, is_quiet=bool(number % 2))))
        elif step == "land" and polls:
            count, expected = polls.pop()
            slots.end_poll(expected)
            slots.buffered += min(count, number)
        elif step == "end":
            for _ in range(min(number, slots.running + slots.buffered)):
                slots.buffered, slots.running = start_all(slots)
                slots.running, slots.settling = slots.running - 1, slots.settling + 1
                slots.note_end(0)
        elif step == "settle" and slots.settling:
            slots.settling, slots.unread = slots.settling - 1, slots.unread + 1
        elif step == "read" and slots.unread:
            slots.unread -= 1
        slots.buffered, slots.running = start_all(slots)

    most = concurrency + prefetch
    assert slots.buffered <= pollers * most
    assert slots.settling + slots.unread <= max(most, 20) + (pollers + 1) * most
