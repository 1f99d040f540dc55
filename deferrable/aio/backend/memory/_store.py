"""The items of the in-memory queue.

Owns the order of items, who holds which and until when, and when an item has been delivered too
often. The caller holds the lock and passes the time. Nothing that jobs need takes longer than
O(log n).

The one rule: call `catch_up` first. After it, leases that have ended are over, and due items are
available.
"""

import heapq
import math
import socket
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest
from itertools import chain, count, islice
from operator import attrgetter
from typing import NamedTuple

from deferrable import lifecycle
from deferrable._codec.json import dump, load_item
from deferrable.aio._contract.inspecting import REMEMBERED_SECONDS
from deferrable.errors import SerializationError
from deferrable.pause import Pause
from deferrable.worker_reports import FORGOTTEN_SECONDS, WorkerReport

__all__ = ["Lease", "Now", "Standing", "Store", "StoredItem"]

_place_of = attrgetter("place")

MOST_REMEMBERED = 100_000
"""The most cancelled items that are remembered."""


class Now(NamedTuple):
    """The moment, as a clock shows it: delays end by `time`, leases by `monotonic`."""

    time: float
    monotonic: float


class StoredItem:
    """An item as text, its place among those available, how often a delivery of it failed, and the
    unique key that it holds.
    """

    __slots__ = ("place", "push_time", "redeliveries", "text", "unique_key")

    def __init__(self, text: str, push_time: float) -> None:
        self.text = text
        self.push_time = push_time
        self.place = 0
        self.redeliveries = 0
        self.unique_key: str | None = None


class Lease:
    """One delivery of one entry; valid as long as the store `holds` it."""

    __slots__ = ("end_time", "entry", "is_stop_wanted", "number", "pop_time")

    def __init__(self, entry: StoredItem, number: int, pop_time: float, end_time: float) -> None:
        self.entry = entry
        self.number = number
        self.pop_time = pop_time
        self.is_stop_wanted = False
        self.end_time = end_time


class Standing(NamedTuple):
    """An entry, and where it is: held if it has a lease, delayed if it has a due time."""

    entry: StoredItem
    lease: Lease | None = None
    due_time: float | None = None


class Reports:
    """What the workers of one queue have reported, each with the moment on both clocks."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, WorkerReport]] = {}

    def keep(self, report: WorkerReport, now: Now) -> None:
        self._forget_old(now)
        self._reports[report.id] = now.monotonic, replace(report, seen_time=now.time)

    def drop(self, worker_id: str) -> None:
        self._reports.pop(worker_id, None)

    def find(self, now: Now) -> list[WorkerReport]:
        self._forget_old(now)
        return [report for _, report in self._reports.values()]

    def _forget_old(self, now: Now) -> None:
        end = now.monotonic - FORGOTTEN_SECONDS
        self._reports = {key: each for key, each in self._reports.items() if each[0] > end}


class Store:
    """The entries of one queue.

    Args:
        lease_seconds: how long a popped entry is held without a touch.
        max_redeliveries: more failed deliveries than that bury an entry.
        errors: where it is buried; None: it comes back for ever.

    Attributes:
        pause: while there is one, nothing is popped.
        reports: of its workers.
    """

    def __init__(
        self,
        lease_seconds: float,
        max_redeliveries: float = math.inf,
        errors: "Store | None" = None,
    ) -> None:
        self._lease_seconds = lease_seconds
        self.max_redeliveries = max_redeliveries
        self._errors = errors
        self.pause: Pause | None = None
        self.reports = Reports()
        self._numbers = count()
        self._cancelled: dict[str, float] = {}
        """Ids of cancelled items and when each is forgotten, the next one first."""
        self._empty()

    def _empty(self) -> None:
        # Given back to the front: by place, so that the old order does not depend on the order
        # of the releases. All of them are before all that wait.
        self._returned: list[tuple[int, StoredItem]] = []
        self._waiting: deque[StoredItem] = deque()
        self._delayed: list[tuple[float, int, StoredItem]] = []
        self._held: set[Lease] = set()
        self._unique: dict[str, str] = {}
        """The id of the item that holds each key. Its entry names the key."""
        # By end of lease as it was when the lease was put here: the leases settled or prolonged
        # since are found out when their turn comes.
        self._lease_ends: list[tuple[float, int, Lease]] = []

    @property
    def is_available(self) -> bool:
        """Whether there is an item to pop."""
        return self.pause is None and bool(self._waiting or self._returned)

    def rest_seconds(self, now: Now) -> float:
        """In how many seconds `catch_up` is needed; infinity: nothing ends or becomes due.

        Args:
            now: see `catch_up`.
        """
        rest = self._rest_of_items(now)
        if self.pause is not None and self.pause.until_time is not None:
            rest = min(rest, self.pause.until_time - now.time)
        return rest

    def _rest_of_items(self, now: Now) -> float:
        due_time = self._delayed[0][0] if self._delayed else math.inf
        return min(due_time - now.time, self._next_lease_end() - now.monotonic)

    def catch_up(self, now: Now) -> None:
        """Make due items available, then take back items that were held for too long."""
        if self.pause is not None and self.pause.is_over(now.time):
            self.pause = None
        delayed, ends = self._delayed, self._lease_ends
        if (not delayed or delayed[0][0] > now.time) and (not ends or ends[0][0] > now.monotonic):
            return
        while self._rest_of_items(now) <= 0:
            due_time = self._delayed[0][0] if self._delayed else math.inf
            if due_time - now.time <= self._next_lease_end() - now.monotonic:
                self._append(heapq.heappop(self._delayed)[2])
            else:
                _, _, lease = heapq.heappop(self._lease_ends)
                self._held.remove(lease)
                if not self._is_buried(lease.entry, now.time):
                    self._append(lease.entry)

    def push(self, entry: StoredItem, now: Now, delay_seconds: float) -> None:
        """Put `entry` at the back, or among the delayed ones."""
        entry.place = next(self._numbers)
        if delay_seconds > 0:
            heapq.heappush(self._delayed, (now.time + delay_seconds, entry.place, entry))
        else:
            self._waiting.append(entry)

    def pop(self, maximum: int, now: Now) -> list[Lease]:
        """Take up to `maximum` entries from the front."""
        leases: list[Lease] = []
        while len(leases) < maximum and self.is_available:
            entry = heapq.heappop(self._returned)[1] if self._returned else self._waiting.popleft()
            leases.append(self._lend(entry, now.monotonic))
        return leases

    def standing_from(self, place: int, most: int) -> list[Standing]:
        """The first entries from a place on, held or not, in order.

        It takes O(n), and little of that for those that are available.
        """
        held = (Standing(lease.entry, lease) for lease in self._held)
        delayed = (Standing(entry, None, due_time) for due_time, _, entry in self._delayed)
        returned = (Standing(entry) for _, entry in self._returned)
        start = bisect_left(self._waiting, place, key=_place_of)
        waiting = map(Standing, islice(self._waiting, start, start + most))
        each = chain(returned, waiting, delayed, held)
        return nsmallest(
            most,
            (standing for standing in each if standing.entry.place >= place),
            key=lambda standing: standing.entry.place,
        )

    def standing_with(self, text: str) -> Iterator[Standing]:
        """The entries whose text contains `text`. It takes O(n)."""
        for lease in self._held:
            if text in lease.entry.text:
                yield Standing(lease.entry, lease)
        for entry in chain((entry for _, entry in self._returned), self._waiting):
            if text in entry.text:
                yield Standing(entry)
        for due_time, _, entry in self._delayed:
            if text in entry.text:
                yield Standing(entry, None, due_time)

    def pop_places(self, places: Sequence[int], now: Now) -> list[Lease | None]:
        """Take the available entries at these places; None for each other. It takes O(n)."""
        wanted = set(places)
        available = {entry.place: entry for entry in self._waiting if entry.place in wanted}
        available |= {place: entry for place, entry in self._returned if place in wanted}
        self._waiting = deque(each for each in self._waiting if each.place not in available)
        self._returned = [each for each in self._returned if each[0] not in available]
        heapq.heapify(self._returned)
        found = (available.pop(place, None) for place in places)
        return [None if entry is None else self._lend(entry, now.monotonic) for entry in found]

    def take_out(self, standing: Standing) -> bool:
        """Forget an entry that is not held, if it is still there. It takes O(n)."""
        entry = standing.entry
        is_there = self._take_from_its_place(entry)
        if is_there:
            self.free_key(entry)
        return is_there

    def _take_from_its_place(self, entry: StoredItem) -> bool:
        for number, (_, _, delayed) in enumerate(self._delayed):
            if delayed is entry:
                del self._delayed[number]
                heapq.heapify(self._delayed)
                return True
        for number, (_, returned) in enumerate(self._returned):
            if returned is entry:
                del self._returned[number]
                heapq.heapify(self._returned)
                return True
        place = bisect_left(self._waiting, entry.place, key=_place_of)
        if place < len(self._waiting) and self._waiting[place] is entry:
            del self._waiting[place]
            return True
        return False

    def hasten(self, standing: Standing, text: str) -> bool:
        """Make a delayed entry available now, with another text, if it is still delayed."""
        if not any(entry is standing.entry for _, _, entry in self._delayed):
            return False
        self._take_from_its_place(standing.entry)
        standing.entry.text = text
        self._append(standing.entry)
        return True

    def remember_cancelled(self, item_id: str, now: float) -> None:
        """Remember for a day that an item was cancelled."""
        self._cancelled.pop(item_id, None)
        self._cancelled[item_id] = now + REMEMBERED_SECONDS
        while next(iter(self._cancelled.values())) <= now or len(self._cancelled) > MOST_REMEMBERED:
            del self._cancelled[next(iter(self._cancelled))]

    def is_cancelled(self, item_id: str, now: float) -> bool:
        """Whether an item was cancelled in the last day."""
        return self._cancelled.get(item_id, now) > now

    def holds(self, lease: Lease) -> bool:
        """Whether `lease` has neither ended nor been settled."""
        return lease in self._held

    def touch(self, lease: Lease, seconds: float, now: Now) -> None:
        """Move the end of a lease that is held, never back."""
        lease.end_time = max(lease.end_time, now.monotonic + seconds)

    def remove(self, lease: Lease) -> None:
        """Forget an entry that is held."""
        if lease.entry.unique_key is not None:
            self.free_key(lease.entry)
        self._held.remove(lease)
        while self._lease_ends and self._lease_ends[0][2] not in self._held:
            heapq.heappop(self._lease_ends)
        if len(self._lease_ends) > 2 * len(self._held) + 1000:
            self._lease_ends = [(each.end_time, each.number, each) for each in self._held]
            heapq.heapify(self._lease_ends)

    def release(
        self, lease: Lease, now: Now, delay_seconds: float, *, to_front: bool, is_counted: bool
    ) -> None:
        """Give back an entry that is held."""
        entry = lease.entry
        key, entry.unique_key = entry.unique_key, None
        self.remove(lease)
        entry.unique_key = key  # It lives on, and so does its key.
        if is_counted and self._is_buried(entry, now.time):
            return
        if to_front and not delay_seconds:
            heapq.heappush(self._returned, (entry.place, entry))
        else:
            self.push(entry, now, delay_seconds)

    def bury(self, entry: StoredItem, error: Exception, now: float) -> None:
        """Push the item of `entry` with a record of `error` onto the error queue, if there is one.

        An item that is nested too deeply to be read or written here is kept as text.
        """
        if self._errors is None:
            return
        hostname = socket.gethostname()
        try:
            text = dump(lifecycle.with_error(load_item(entry.text), error, now, hostname))
        except SerializationError:
            text = dump(lifecycle.with_error({"raw": entry.text}, error, now, hostname))
        self._errors._append(StoredItem(text, now))

    # Unique keys. An entry that leaves the queue frees its own.

    def take_key(self, entry: StoredItem, key: str, item_id: str) -> str | None:
        """Have a new entry hold a key; if another one does, the id of its item."""
        holder_id = self._unique.get(key)
        if holder_id is None:
            self._unique[key] = item_id
            entry.unique_key = key
        return holder_id

    def pass_key_on(self, old: StoredItem, new: StoredItem, key: str, item_id: str) -> None:
        """Have `new` hold the key, if `old` holds it."""
        if old.unique_key == key:
            old.unique_key, new.unique_key = None, key
            self._unique[key] = item_id

    def free_key(self, entry: StoredItem) -> None:
        """Let go of the key of an entry, if it holds one."""
        key, entry.unique_key = entry.unique_key, None
        if key is not None:
            del self._unique[key]

    def flush(self) -> None:
        """Forget everything, also the leases."""
        self._empty()

    def stats(self, now: float) -> Mapping[str, float]:
        """How many entries are in each state, and how old the next one to pop is."""
        counts: dict[str, float] = {
            "available": len(self._waiting) + len(self._returned),
            "in_flight": len(self._held),
            "delayed": len(self._delayed),
        }
        if counts["available"]:
            entry = self._returned[0][1] if self._returned else self._waiting[0]
            counts["oldest_age_seconds"] = max(now - entry.push_time, 0.0)
        if self.pause is not None:
            counts["paused_seconds"] = max(now - self.pause.since_time, 0.0)
        return counts

    def _append(self, entry: StoredItem) -> None:
        entry.place = next(self._numbers)
        self._waiting.append(entry)

    def _lend(self, entry: StoredItem, now: float) -> Lease:
        lease = Lease(entry, next(self._numbers), now, now + self._lease_seconds)
        self._held.add(lease)
        heapq.heappush(self._lease_ends, (lease.end_time, lease.number, lease))
        return lease

    def _next_lease_end(self) -> float:
        ends = self._lease_ends
        while ends:
            end_time, number, lease = ends[0]
            if lease not in self._held:
                heapq.heappop(ends)
            elif lease.end_time > end_time:
                heapq.heapreplace(ends, (lease.end_time, number, lease))
            else:
                return end_time
        return math.inf

    def _is_buried(self, entry: StoredItem, now: float) -> bool:
        """Count one more delivery that ended without settlement; bury an entry with too many."""
        entry.redeliveries += 1
        if self._errors is None or entry.redeliveries <= self.max_redeliveries:
            return False
        error = lifecycle.TooManyDeliveries(entry.redeliveries, self.max_redeliveries)
        self.free_key(entry)
        self.bury(entry, error, now)
        return True
