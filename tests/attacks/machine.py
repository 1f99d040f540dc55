"""The machine that holds a backend against a model.

Owns the model of one queue (what is where, until when, in whose hands), and the machine that draws
calls, moves the clock and has consumers crash, through both APIs. The one rule: what a queue gives
out is free, and what is free comes out, each as often as it is there.
"""

import asyncio
import inspect
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from attacks.places import LEASE_SECONDS, Place
from deferrable.aio.envelope import Envelope
from deferrable.errors import BackendError, LeaseLost
from deferrable.item import Item
from deferrable.sync.backend import Backend as BlockingBackend

__all__ = ["COUNTS", "make_machine"]

COUNTS: Counter[str] = Counter()
"""How often each thing happened, over all examples."""

MOMENTS = st.sampled_from([1.13, 5.37, 10.71, 29.93, 30.17, 101.3])
"""Chosen so that time never stops at the very end of a lease or a delay, where both are right."""

LONGEST_RETURN_SECONDS = 100.0
"""After the end of a lease: a broker may know only that its consumer is silent, and that one may
have touched something else meanwhile."""

DELAYS = st.sampled_from([0, 0, 0, 4, 20.5])


@dataclass(eq=False)
class Kept:
    """An item, as the model has it.

    Attributes:
        place: its place among those pushed at once; None: the broker decides.
        due_time: until when it is delayed.
        envelope: of the present holder, or of the last one if its lease ended.
    """

    item: Item
    place: int | None = None
    due_time: float = 0.0
    envelope: Envelope | None = None
    lease_end_time: float = 0.0
    was_popped: bool = False


class Consumer:
    """One consumer through one API; its verbs block."""

    def __init__(self, backend: Any, role: str, face: str, loop: asyncio.AbstractEventLoop) -> None:
        self.backend = backend
        self.core = getattr(backend, role)
        self._queue = self.core if face == "awaiting" else getattr(BlockingBackend(backend), role)
        self._loop = loop

    def __call__(self, verb: str, *args: Any) -> Any:
        COUNTS["calls"] += 1
        answer = getattr(self._queue, verb)(*args)
        return self._loop.run_until_complete(answer) if inspect.isawaitable(answer) else answer


class Machine(RuleBasedStateMachine):
    """Two consumers of one queue, and the model."""

    make_place: Callable[[], Place]

    def __init__(self) -> None:
        super().__init__()
        COUNTS["examples"] += 1
        self.loop = asyncio.new_event_loop()
        self.place = type(self).make_place()
        self.made: list[Consumer] = []
        self.kept: dict[int, Kept] = {}
        self.stale: list[tuple[Consumer, Envelope]] = []
        self.flushed: list[tuple[Consumer, Envelope]] = []
        self.held: list[tuple[Consumer, int]] = []
        self.number = 0
        self.was_flushed = False

    @initialize(
        role=st.sampled_from(["queue", "queue", "error_queue"]),
        faces=st.tuples(*[st.sampled_from(["awaiting", "blocking"])] * 2),
    )
    def begin(self, role: str, faces: tuple[str, str]) -> None:
        self.role = role
        self.faces = faces
        self.consumers = [self._consumer(face) for face in faces]

    def _consumer(self, face: str) -> Consumer:
        made = Consumer(self.place.consumer(), self.role, face, self.loop)
        self.made.append(made)
        return made

    @property
    def now(self) -> float:
        return self.place.clock.time()

    # Producers.

    def _new(self, delay: float) -> tuple[int, Kept]:
        self.number += 1
        item: Item = {"number": self.number, "error": {"id": f"error-{self.number}"}}
        if delay:
            return self.number, Kept({**item, "delay": delay}, due_time=self.now + delay)
        return self.number, Kept(item, place=self.number)

    @rule(index=st.integers(0, 1), delays=st.lists(DELAYS, min_size=1, max_size=8))
    def push(self, index: int, delays: list[float]) -> None:
        consumer = self.consumers[index]
        new = [self._new(delay) for delay in delays]
        answers = consumer("push_batch", [kept.item for _, kept in new])
        for (number, kept), (_, ok) in zip(new, answers, strict=True):
            assert ok == (consumer.core.SUPPORTS_DELAY or "delay" not in kept.item)
            if ok:
                self.kept[number] = kept
                COUNTS["pushed"] += 1

    # Consumers.

    @rule(index=st.integers(0, 1))
    def push_and_pop(self, index: int) -> None:
        """What happens most."""
        self.push(index, [0, 0])
        self.pop(index, 2)

    @rule(index=st.integers(0, 1), count=st.integers(1, 4))
    def pop(self, index: int, count: int) -> None:
        consumer = self.consumers[index]
        popped: list[Any] = []
        for _ in range(5):  # fewer than asked for does not mean that it is empty
            if len(popped) < count:
                popped += consumer("pop_batch", count - len(popped))
        assert len(popped) <= count
        numbers = [item["number"] for _, item in popped]
        assert len(set(numbers)) == len(numbers), "one item for two"
        if consumer.core.FIFO:
            self._check_order(numbers)
        for envelope, item in popped:
            self._take(consumer, envelope, item)
        if len(popped) < count:
            assert not [each for each in self.kept.values() if self._is_surely_free(each)]

    def _take(self, consumer: Consumer, envelope: Envelope, item: Item) -> None:
        kept = self.kept.get(item["number"])
        assert kept is not None, "a settled item came back"
        assert item == kept.item
        assert kept.due_time <= self.now, "it is not due"
        assert kept.lease_end_time <= self.now, "somebody holds it"
        assert envelope.lease_end_time == self.now + LEASE_SECONDS
        COUNTS["popped"] += 1
        COUNTS["popped again"] += kept.was_popped
        self._forget_holder(item["number"])
        kept.envelope, kept.was_popped, kept.place = envelope, True, None
        kept.lease_end_time = self.now + LEASE_SECONDS
        self.held.append((consumer, item["number"]))

    def _check_order(self, numbers: list[int]) -> None:
        places = [place for each in numbers if (place := self.kept[each].place) is not None]
        rest = [
            kept.place
            for number, kept in self.kept.items()
            if kept.place is not None and number not in numbers
        ]
        assert places == sorted(places)
        assert not places or not rest or max(places) < min(rest)

    def _is_surely_free(self, kept: Kept) -> bool:
        if kept.envelope is not None:
            return kept.lease_end_time + LONGEST_RETURN_SECONDS < self.now
        return kept.due_time + self.place.late_seconds <= self.now

    def _forget_holder(self, number: int) -> None:
        for consumer, other in list(self.held):
            envelope = self.kept[number].envelope
            if other == number and envelope is not None:
                self.held.remove((consumer, other))
                self.stale.append((consumer, envelope))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), verb=st.sampled_from(["touch", "complete", "release", "replace"]))
    def use(self, data: st.DataObject, verb: str) -> None:
        place = data.draw(st.sampled_from(self.held))
        consumer, number = place
        kept = self.kept[number]
        assert kept.envelope is not None
        if kept.lease_end_time < self.now:
            with pytest.raises(LeaseLost):
                self._use(consumer, verb, kept, data)
            return
        if not self._use(consumer, verb, kept, data):
            return
        self.held.remove(place)
        self.stale.append((consumer, kept.envelope))
        kept.envelope, kept.lease_end_time = None, 0.0
        if verb != "release":
            del self.kept[number]
            COUNTS["completed"] += 1

    def _use(self, consumer: Consumer, verb: str, kept: Kept, data: st.DataObject) -> bool:
        """Perform it; whether the envelope is settled by it."""
        envelope, core = kept.envelope, consumer.core
        assert envelope is not None
        if verb == "touch":
            seconds = data.draw(st.sampled_from([7, 45]))
            consumer("touch", envelope, seconds)
            kept.lease_end_time = max(kept.lease_end_time, self.now + seconds)
            return False
        if verb == "complete":
            consumer("complete", envelope)
            return True
        can_delay = core.SUPPORTS_RELEASE_DELAY if verb == "release" else core.SUPPORTS_DELAY
        delay = data.draw(DELAYS) if can_delay else 0
        number, new = self._new(delay)
        if verb == "release":
            envelope.has_started = data.draw(st.booleans())
        consumer(verb, envelope, delay if verb == "release" else new.item)
        if verb == "release":
            kept.due_time = self.now + delay
        else:
            self.kept[number] = new
            COUNTS["pushed"] += 1
        return True

    @precondition(lambda self: self.stale)
    @rule(
        data=st.data(),
        verb=st.sampled_from(["touch", "complete", "release"]),
        is_clock_behind=st.booleans(),
    )
    def use_what_is_held_no_more(
        self, data: st.DataObject, verb: str, is_clock_behind: bool
    ) -> None:
        consumer, envelope = data.draw(st.sampled_from(self.stale))
        if is_clock_behind and self.place.fences_stale_holders:  # then only the broker can tell
            envelope.lease_end_time = math.inf
        with pytest.raises(LeaseLost):
            consumer(verb, envelope)

    @precondition(lambda self: self.flushed)
    @rule(data=st.data(), verb=st.sampled_from(["complete", "release"]))
    def settle_what_was_flushed(self, data: st.DataObject, verb: str) -> None:
        """A touch need not notice: some brokers have one heartbeat for all items of a consumer."""
        place = data.draw(st.sampled_from(self.flushed))
        self.flushed.remove(place)
        self.stale.append(place)
        with pytest.raises(LeaseLost):
            place[0](verb, place[1])

    # The world.

    @rule(seconds=MOMENTS)
    def pass_time(self, seconds: float) -> None:
        self.place.clock.advance(seconds)

    @rule(index=st.integers(0, 1), chance=st.integers(0, 3))
    def crash(self, index: int, chance: int) -> None:
        """A consumer disappears; another one takes its place."""
        if chance != 2:
            return
        COUNTS["crashes"] += 1
        gone = self.consumers[index]
        self.held = [each for each in self.held if each[0] is not gone]
        self.stale = [each for each in self.stale if each[0] is not gone]
        self.flushed = [each for each in self.flushed if each[0] is not gone]
        self.consumers[index] = self._consumer(self.faces[index])

    @rule(index=st.integers(0, 1), chance=st.integers(0, 31))
    def flush(self, index: int, chance: int) -> None:
        if chance != 17:  # seldom, or there would never be much
            return
        try:
            self.consumers[index]("flush")
        except BackendError:
            assert self.was_flushed
            assert not self.place.flushes_at_will
            return
        self.was_flushed = True
        for consumer, number in self.held:
            envelope = self.kept[number].envelope
            assert envelope is not None
            self.flushed.append((consumer, envelope))
        self.held = []
        COUNTS["flushed"] += len(self.kept)
        self.kept = {}

    @rule(index=st.integers(0, 1))
    def count(self, index: int) -> None:
        stats = self.consumers[index]("stats")
        total = sum(stats.get(where, 0) for where in ("available", "in_flight", "delayed"))
        assert total == len(self.kept)

    @invariant()
    def nothing_is_held_by_two(self) -> None:
        assert len({number for _, number in self.held}) == len(self.held)

    def teardown(self) -> None:
        try:
            if hasattr(self, "consumers"):
                self._all_comes_back()
        finally:
            for each in self.made:
                self.loop.run_until_complete(each.backend.close())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _all_comes_back(self) -> None:
        """Once every lease and delay has ended, what was never settled is there."""
        self.place.clock.advance(10_000)
        found: set[int] = set()
        for _ in range(100):
            for consumer in self.consumers:
                for envelope, item in consumer("pop_batch", 10):
                    consumer("complete", envelope)
                    found.add(item["number"])
            if found >= set(self.kept):
                break
            time.sleep(self.place.pause_seconds / 10)
        COUNTS["lost"] += len(set(self.kept) - found)
        assert found == set(self.kept), f"lost: {set(self.kept) - found}"
        COUNTS["completed"] += len(found)


def make_machine(make_place: Callable[[], Place]) -> type[Machine]:
    """The machine for one backend."""
    return type("PlacedMachine", (Machine,), {"make_place": staticmethod(make_place)})
