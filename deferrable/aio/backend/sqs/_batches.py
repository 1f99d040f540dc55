"""Batches of SQS: which entries are sent together, and what happened to each.

Owns the splitting by count and bytes, the matching of answers to entries by their ids, and which
entries are sent again.

Each entry gets the answer with its own id. An entry that the answer does not mention was not
answered.

Source: SQS API reference, SendMessageBatch and its siblings: HTTP 200 carries ``Successful`` and
``Failed``; `SenderFault` says whose fault it was.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from deferrable.aio.backend.sqs._errors import Refused, is_throttling
from deferrable.aio.backend.sqs._link import Answer, pause_seconds
from deferrable.aio.backend.sqs._remote import RemoteQueue
from deferrable.errors import BackendError, BackendUnavailable

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_SIZE",
    "OLDER_MOST_BYTES",
    "BatchEntry",
    "Judge",
    "perform",
]

MAX_BATCH_SIZE = 10
MAX_BATCH_BYTES = 1_048_576
"""Source: SQS developer guide, quotas of messages: of one message, and of a batch in all."""
OLDER_MOST_BYTES = 262_144
"""The same until August 2025; older queues, and other servers, still have it."""

_TRIES = 4

BatchEntry: TypeAlias = Mapping[str, Any]
Judge: TypeAlias = Callable[[int, str, str, bool], Exception | None]
"""What it means that the entry of an index was refused: its code, its text, and whether an earlier
try may have taken effect."""


def _split(
    indexes: Sequence[int], sizes: Sequence[int], most_bytes: int = MAX_BATCH_BYTES
) -> list[list[int]]:
    """`indexes` in their order, in as few batches as count and bytes allow.

    Args:
        sizes: the bytes of each entry, by index.
        most_bytes: of a whole batch; a larger entry is sent alone.
    """
    batches: list[list[int]] = []
    rest = 0
    for index in indexes:
        if not batches or len(batches[-1]) == MAX_BATCH_SIZE or sizes[index] > rest:
            batches.append([])
            rest = most_bytes
        batches[-1].append(index)
        rest -= sizes[index]
    return batches


async def perform(
    remote: RemoteQueue,
    operation: str,
    entries: Sequence[BatchEntry],
    sizes: Sequence[int],
    judge: Judge,
) -> list[Exception | None]:
    """Send `entries`; None or an exception for each, in their order.

    An entry that failed by no fault of the sender is sent again a few times.

    Args:
        remote: the queue in SQS.
        entries: without their ids.
        sizes: the bytes of each.
        judge: makes the exception of an entry that was refused; None: that is as good as done.
    """
    # A queue with a lower limit allows a batch of the older size all the same.
    most_bytes = min(max(remote.most_bytes or 0, OLDER_MOST_BYTES), MAX_BATCH_BYTES)
    outcomes: list[Exception | None] = [None] * len(entries)
    batch = _Batch(remote, operation, entries, outcomes, judge)
    pending: Sequence[int] = range(len(entries))
    failures = 0
    while True:
        unanswered: dict[int, BackendError] = {}
        for group in _split(pending, sizes, most_bytes):
            unanswered.update(await batch.send(group, is_repeat=failures > 0))
        failures += 1
        if not unanswered or failures == _TRIES:
            break
        await asyncio.sleep(pause_seconds(failures, random.random()))
        pending = list(unanswered)
    for index, error in unanswered.items():
        outcomes[index] = error
    return outcomes


class _Batch:
    def __init__(
        self,
        remote: RemoteQueue,
        operation: str,
        entries: Sequence[BatchEntry],
        outcomes: list[Exception | None],
        judge: Judge,
    ) -> None:
        self._remote = remote
        self._operation = operation
        self._entries = entries
        self._outcomes = outcomes
        self._judge = judge

    async def send(self, group: Sequence[int], *, is_repeat: bool) -> dict[int, BackendError]:
        """Send the entries of `group` and note their results.

        Returns:
            those that are worth sending again, with their failures.
        """
        try:
            entries = [{"Id": str(index), **self._entries[index]} for index in group]
            answer, was_repeated = await self._remote.call(self._operation, Entries=entries)
        except Refused as error:
            return await self._note_refusal(group, error, is_repeat)
        except BackendError as error:
            for index in group:
                self._outcomes[index] = error
            return {}
        return self._note_answer(group, answer, is_repeat or was_repeated)

    async def _note_refusal(
        self, group: Sequence[int], error: Refused, is_repeat: bool
    ) -> dict[int, BackendError]:
        """A whole batch was refused. If one entry may be the reason, each is sent alone."""
        if error.is_for_any_entry:
            for index in group:
                self._outcomes[index] = error
            return {}
        if len(group) == 1:
            self._outcomes[group[0]] = self._judge(group[0], error.code, str(error), is_repeat)
            return {}
        unanswered: dict[int, BackendError] = {}
        for index in group:
            unanswered.update(await self.send([index], is_repeat=is_repeat))
        return unanswered

    def _note_answer(
        self, group: Sequence[int], answer: Answer, is_repeat: bool
    ) -> dict[int, BackendError]:
        done = {each.get("Id") for each in answer.get("Successful", ())}
        failed = {each.get("Id"): each for each in answer.get("Failed", ())}
        unanswered: dict[int, BackendError] = {}
        for index in group:
            failure = failed.get(str(index))
            if failure is None and str(index) in done:
                continue
            code = str(failure.get("Code")) if failure else "no answer"
            text = f"{code}: {failure.get('Message')}" if failure else "it is not in the answer"
            if failure and failure.get("SenderFault") and not is_throttling(code):
                self._outcomes[index] = self._judge(index, code, text, is_repeat)
            else:
                unanswered[index] = BackendUnavailable(
                    f"SQS did not take an entry of a batch: {text}; try again later"
                )
        return unanswered
