"""The items that one consumer of a Dockets queue holds.

Owns the consumer's id, the items that it holds and until when, and its running pops. One lock
guards all of it, because a queue is used from several threads and event loops. It does no I/O and
reads no clock.

The one rule: an item that Redis lists as ours is either held here, or will be held by a running
pop, or is an orphan. Nothing is called an orphan while one of the other two may be true.
"""

import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

from deferrable._fork import on_fork
from deferrable.aio.backend.dockets._wire import Key
from deferrable.item import new_id

__all__ = ["Consumer", "Held", "Pop"]


class Held:
    """One delivery: its bytes in the working list, and how long they are ours.

    Two deliveries may have equal bytes, so only this object distinguishes them.

    Attributes:
        end_time: when this consumer takes the item back unless it is touched; monotonic, as all
            moments here.
        last_time: when it does so even if it is touched.
        may_be_settled: a settlement was sent, and its answer was lost.
        unique_key: the unique key that its item names.
    """

    __slots__ = (
        "consumer_id",
        "end_time",
        "is_claimed",
        "last_time",
        "may_be_settled",
        "raw",
        "unique_key",
    )

    def __init__(self, consumer_id: str, raw: bytes, end_time: float, last_time: float) -> None:
        self.consumer_id = consumer_id
        self.raw = raw
        self.end_time = min(end_time, last_time)
        self.last_time = last_time
        self.is_claimed = False
        self.may_be_settled = False
        self.unique_key: Key | None = None


class Pop:
    """A running pop, under the id that the consumer had when it began."""

    __slots__ = ("consumer_id", "end_time", "is_first")

    def __init__(self, consumer_id: str, is_first: bool) -> None:
        self.consumer_id = consumer_id
        self.is_first = is_first
        # Of a failed pop: until when the server may still act on it.
        self.end_time = math.inf


class Consumer:
    """The state of one consumer: one queue object in one process, under its own id."""

    def __init__(self) -> None:
        self._reset_after_fork()
        on_fork(self._reset_after_fork)

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._forget_all()

    def _forget_all(self) -> None:
        self._id: str | None = None
        self._has_joined = False
        self._held: set[Held] = set()
        # Not later than the first end of a lease held, and not before the last one.
        self._earliest_time = math.inf
        self._latest_time = -math.inf
        self._pops: set[Pop] = set()
        self._suspects: dict[bytes, tuple[int, set[Pop]]] = {}

    @property
    def id(self) -> str | None:
        """The id under which this consumer has popped; None: it has not yet."""
        return self._id

    @property
    def latest_time(self) -> float:
        """A moment not before the end of any lease held."""
        return self._latest_time

    @property
    def earliest_time(self) -> float:
        """A moment not after the first end of a lease held; infinity: nothing is held."""
        return self._earliest_time

    def lose(self, consumer_id: str) -> None:
        """Redis no longer knows this consumer: forget its items, and go on under a new id."""
        with self._lock:
            if self._id == consumer_id:
                self._forget_all()

    def resign(self, monotonic_now: float) -> str | None:
        """Give up the id if nothing is held and no pop is running. Return the id, or None."""
        with self._lock:
            self._forget_ended_pops(monotonic_now)
            if self._held or self._pops:
                return None
            consumer_id = self._id
            self._forget_all()
            return consumer_id

    # Pops.

    def begin_pop(self) -> Pop:
        with self._lock:
            if self._id is None:
                self._id = new_id()
            pop = Pop(self._id, not self._has_joined)
            self._pops.add(pop)
            return pop

    def end_pop(self, pop: Pop) -> None:
        """The items of the pop are held by now, or were never taken."""
        with self._lock:
            self._pops.discard(pop)

    def break_pop(self, pop: Pop, end_time: float) -> None:
        """The answer of `pop` is lost; the server may act on it until `end_time` (monotonic)."""
        with self._lock:
            pop.end_time = end_time

    def _forget_ended_pops(self, monotonic_now: float) -> None:
        self._pops = {pop for pop in self._pops if pop.end_time > monotonic_now}

    def join(self, pop: Pop) -> None:
        """Redis knows the consumer as one of the workers."""
        with self._lock:
            if self._id == pop.consumer_id:
                self._has_joined = True

    def hold(
        self, pop: Pop, raws: Iterable[bytes], end_time: float, last_time: float
    ) -> list[Held] | None:
        """Hold the items of `pop`. None: the id has changed meanwhile, and nothing is held."""
        with self._lock:
            if self._id != pop.consumer_id:
                return None
            taken = [Held(pop.consumer_id, raw, end_time, last_time) for raw in raws]
            self._held.update(taken)
            for held in taken:
                # Bytes that are held now say nothing about equal bytes seen before.
                self._suspects.pop(held.raw, None)
                self._note_end(held)
            return taken

    # Settlements.

    def holds(self, held: Held) -> bool:
        return held in self._held

    def claim(self, handles: Iterable[object]) -> list[Held | None]:
        """Reserve these for a settlement. None for one that is not ours, or is being settled."""
        claimed: list[Held | None] = []
        with self._lock:
            for handle in handles:
                if isinstance(handle, Held) and handle in self._held and not handle.is_claimed:
                    handle.is_claimed = True
                    claimed.append(handle)
                else:
                    claimed.append(None)
        return claimed

    def unclaim(self, claimed: Iterable[Held], *, may_be_settled: bool) -> None:
        """The settlement failed."""
        with self._lock:
            for held in claimed:
                held.is_claimed = False
                held.may_be_settled = held.may_be_settled or may_be_settled
                self._note_end(held)

    def drop(self, settled: Iterable[Held]) -> None:
        """They are settled, or lost."""
        with self._lock:
            self._held.difference_update(settled)
            if not self._held:
                self._earliest_time, self._latest_time = math.inf, -math.inf

    def drop_all(self) -> None:
        """The queue was emptied; the consumer lives on."""
        with self._lock:
            self._held.clear()
            self._suspects.clear()

    def prolong(self, held: Held, end_time: float) -> None:
        """Move the end of a lease, never back."""
        with self._lock:
            held.end_time = max(held.end_time, min(end_time, held.last_time))
            self._latest_time = max(self._latest_time, held.end_time)

    def claim_expired(self, now: float) -> list[Held]:
        """The items whose lease has ended, claimed, in no order."""
        if now < self._earliest_time:
            return []
        with self._lock:
            expired = [each for each in self._held if each.end_time <= now and not each.is_claimed]
            for held in expired:
                held.is_claimed = True
            self._earliest_time = min(
                (held.end_time for held in self._held if not held.is_claimed), default=math.inf
            )
            return expired

    def _note_end(self, held: Held) -> None:
        self._earliest_time = min(self._earliest_time, held.end_time)
        self._latest_time = max(self._latest_time, held.end_time)

    # Orphans.

    @property
    def held_count(self) -> int:
        return len(self._held)

    @property
    def has_suspects(self) -> bool:
        """Whether `find_orphans` saw something that it has to see again."""
        return bool(self._suspects)

    def find_orphans(self, listed: Sequence[bytes], monotonic_now: float) -> list[bytes]:
        """The entries of `listed`, our working list as Redis just returned it, that nobody runs.

        Bytes are orphans when they were seen twice without a holder, and every pop that was running
        at the first look has ended. Until then they are remembered as suspects.

        Returns:
            the orphans in the order of the list; they are not suspects any more.
        """
        with self._lock:
            self._forget_ended_pops(monotonic_now)
            unheld = Counter(listed)
            unheld.subtract(held.raw for held in self._held)
            suspects: dict[bytes, tuple[int, set[Pop]]] = {}
            orphans: Counter[bytes] = Counter()
            for raw, number in unheld.items():
                if number <= 0:
                    continue
                seen, pops = self._suspects.get(raw, (0, None))
                if pops is None:
                    suspects[raw] = (number, set(self._pops))
                elif pops & self._pops:
                    suspects[raw] = (min(seen, number), pops)
                else:
                    orphans[raw] = min(seen, number)
            self._suspects = suspects
        found = []
        for raw in listed:
            if orphans[raw] > 0:
                orphans[raw] -= 1
                found.append(raw)
        return found
