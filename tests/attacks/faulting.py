"""A broker that fails: one call raises, before or after its effect.

Owns the counting of a queue's and a debounce store's calls, and the one that fails.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar, get_args

from deferrable.aio.debounce import DebounceKey, DebounceStore, Reservation
from deferrable.errors import BackendError, BackendUnavailable
from deferrable.item import Item
from deferrable.testing.fault_script import AFTER, Fault, Faults, Kind, Verb

__all__ = ["FaultyStore", "Moment", "NthFault"]

T = TypeVar("T")

Moment = Literal["refused", "lost before", "lost after"]

KINDS: dict[Moment, Kind] = {
    "refused": "fail_before",
    "lost before": "drop",
    "lost after": "fail_after",
}


class NthFault(Faults):
    """Has the call number `target` fail, whatever it is.

    Attributes:
        count: how many calls there were until now.
        where: the verb that failed; None: the target was not reached.
        is_on: calls count.
    """

    def __init__(self, target: int | None, moment: Moment) -> None:
        super().__init__()
        self.count = 0
        self.where: str | None = None
        self.kind = KINDS[moment]
        self.is_on = False
        self._target = target

    def choose(
        self, verb: Verb, item: Item | None, kinds: Sequence[Kind] = get_args(Kind)
    ) -> Fault | None:
        if self.kind not in kinds or not self.strikes(verb):
            return None
        return Fault(verb, self.kind, 1)

    def strikes(self, name: str) -> bool:
        """Whether this call, of this name, is the one."""
        if not self.is_on:
            return False
        self.count += 1
        if self._target != self.count - 1:
            return False
        self.where = name
        return True

    def clear(self) -> None:
        self._target = None


class FaultyStore(DebounceStore):
    """A debounce store whose calls are counted with the queue's."""

    def __init__(self, store: DebounceStore, faults: NthFault) -> None:
        self._store = store
        self.faults = faults

    async def reserve(
        self, key: DebounceKey, window_seconds: float, always_delay: bool, token: str
    ) -> Reservation:
        return await self._call(
            "reserve", lambda: self._store.reserve(key, window_seconds, always_delay, token)
        )

    async def confirm(self, key: DebounceKey, token: str) -> None:
        await self._call("confirm", lambda: self._store.confirm(key, token))

    async def restore(self, key: DebounceKey, token: str) -> None:
        await self._call("restore", lambda: self._store.restore(key, token))

    async def _call(self, name: str, perform: Callable[[], Awaitable[T]]) -> T:
        is_struck, kind = self.faults.strikes(name), self.faults.kind
        if is_struck and kind not in AFTER:
            raise (BackendError if kind == "fail_before" else BackendUnavailable)(name)
        answer = await perform()
        if is_struck:
            raise BackendUnavailable(name)
        return answer
