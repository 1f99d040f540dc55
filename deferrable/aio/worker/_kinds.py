"""Which items of a queue are plain jobs, and how many a worker may pop while threads are busy.

A plain job needs a slot and a thread, and the kind of an item is known only after the pop. So the
worker learns the kind of each job, and what share of a queue's items is plain. While threads are
free, it pops as many items as it expects to fill them. While none is free, it probes: it pops a
few, keeps the async ones, and gives the plain ones back to the front of the queue. The next probe
meets the same items, so it is twice as deep, up to `_DEEPEST`. After that, while all items are
plain, most probes take a hundred: every second one takes twice that, every fourth one four times,
and so on. An async job behind more than `_DEEPEST` plain ones waits until threads run some of them.

The one rule: a probe of full depth is followed by a pause. So a worker whose threads are busy for
long asks the broker once in `_LONGEST_PAUSE_SECONDS`.
"""

import math
from collections.abc import Callable
from typing import Final

from deferrable.item import Item

__all__ = ["Kinds"]

_WEIGHT = 1 / 16
"""The weight of one item in the share of plain ones, so that a few dozen items decide it."""
_LEAST_SHARE = 0.01

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0

_FORGET_SECONDS = 10.0
"""After this time without a probe, the next one is no deeper than the first."""

_PROBED = 100
"""How many items most probes take, with fewer slots than that."""

_DEEPEST = 1_600
"""How many items the rare probes take, one in 16. Others cannot have these items for a moment."""

_LONGEST_PROBE_SECONDS = 0.1
"""If it takes longer to pop the items, perhaps large ones, the next probes are less deep."""

_MOST_HELD = 10
"""How many plain items may wait for a thread if a release harms them; one batch of SQS."""


class Kinds:
    """The known kinds of one queue's items.

    Args:
        find: whether the job of this name is plain; None: it is not known (yet).
        is_mixed: whether any of the jobs is plain. If not, there is no limit until an item is.
        depth: how many items most probes take, if that is more than a hundred.

    Attributes:
        share: which part of the last items was plain; 0: none.
    """

    def __init__(
        self, find: Callable[[str], bool | None], *, is_mixed: bool, depth: int = _PROBED
    ) -> None:
        self.share = 1.0 if is_mixed else 0.0
        self._find = find
        self._known: dict[str, bool] = {}
        self._probed: Final = max(depth, _PROBED)
        self._is_returning = False
        self._start_over()

    def _start_over(self) -> None:
        self._depth = 1
        self._pause_seconds = 0.0
        self._probe_time = -math.inf
        self._ask_time = -math.inf
        self._deepest = self._probed
        self._plain_probes = 0

    def is_plain(self, item: Item) -> bool:
        """Whether the item is known to be a plain job. Also notes it."""
        method = item.get("method")
        if not isinstance(method, str):
            return False
        is_plain = self._known.get(method)
        if is_plain is None:
            is_plain = self._find(method)
            if is_plain is None:
                return False
            self._known[method] = is_plain
        if is_plain or self.share:
            self.share += ((1.0 if is_plain else 0.0) - self.share) * _WEIGHT
            if self.share < _LEAST_SHARE:
                self.share = 0.0
        return is_plain

    def learn(self, item: Item) -> None:
        """The item has turned out to be a plain job."""
        method = item.get("method")
        if isinstance(method, str):
            self._known[method] = True

    def to_ask(
        self, count: int, thread_room: int, now: float, *, held: int, takes_back: bool
    ) -> int:
        """How many items may be popped if there are slots for `count`.

        Args:
            thread_room: how many plain jobs more could start within a second.
            now: on the worker's monotonic clock.
            held: plain items that wait for a thread.
            takes_back: the queue takes back items that cannot start.
        """
        if not self.share:
            return count
        if self._is_returning:
            return 0  # or items that are popped now would be in front of those that go back
        if thread_room > 0:
            return min(count, math.ceil(thread_room / self.share))
        if not takes_back:
            return min(count, max(0, _MOST_HELD - held))
        if now > self._probe_time + _FORGET_SECONDS:
            self._start_over()
        if now < self._probe_time:
            return 0
        self._ask_time = now
        return self._depth

    def begin_return(self, now: float, popped: int, returned: int) -> float:
        """Plain items go back. Return after how many seconds a probe may be made again.

        A probe that brought as many items as it asked for is followed by a deeper one at once, up
        to a hundred items. Then there are pauses, which grow while probes bring only plain items.

        Args:
            popped: how many items came with them.
            returned: how many of these go back.
        """
        self._is_returning = True
        if popped >= self._depth < self._probed:
            self._depth = min(2 * self._depth, self._probed)
            self._pause_seconds = 0.0
        elif popped == returned:
            self._pause_seconds = min(
                max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), _LONGEST_PAUSE_SECONDS
            )
            self._depth = self._next_depth(now, popped)
        else:
            # There may be more at this depth. A deep probe is followed by a longer pause.
            self._pause_seconds = _FIRST_PAUSE_SECONDS * max(1.0, self._depth / self._probed)
            self._plain_probes = 0
        self._probe_time = now + self._pause_seconds
        return self._pause_seconds

    def _next_depth(self, now: float, popped: int) -> int:
        """How deep to look after a probe of plain items only."""
        if popped >= self._depth:
            if now > self._ask_time + _LONGEST_PROBE_SECONDS:
                self._deepest = max(self._probed, self._depth // 2)
            elif self._depth >= self._deepest < _DEEPEST:
                self._deepest = min(2 * self._deepest, _DEEPEST)
                return self._deepest
        self._plain_probes += 1
        level = self._plain_probes & -self._plain_probes  # the largest power of two that divides it
        return min(level * self._probed, self._deepest)

    def end_return(self) -> None:
        """They are back in the queue."""
        self._is_returning = False
