"""How items are sent to SQS.

Owns the form of each message: as it is, compressed, or a reference to an object in S3. Learns the
limit of the queue where it is lower than that of SQS, from SQS or from what the queue refuses.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence

from deferrable.aio.backend.sqs._attributes import attribute_bytes, sent_attributes
from deferrable.aio.backend.sqs._batches import OLDER_MOST_BYTES, BatchEntry, perform
from deferrable.aio.backend.sqs._bodies import MAX_TEXT_BYTES, encode
from deferrable.aio.backend.sqs._errors import Refused, is_in
from deferrable.aio.backend.sqs._pointers import size_field
from deferrable.aio.backend.sqs._remote import RemoteQueue
from deferrable.aio.backend.sqs._s3_store import S3Store
from deferrable.aio.queue import Push
from deferrable.errors import BackendError, ItemTooLarge

__all__ = ["Sender"]

_MOST_IN_REFUSAL = re.compile(r"(?:shorter|less|more|larger) than (\d+)", re.ASCII)

_logger = logging.getLogger("deferrable")


class Sender:
    """Sends the items of one queue.

    Args:
        remote: the queue in SQS.
        routing: the fields of a batch entry, without its body.
        most_item_bytes: the most bytes of a body, as far as known.
        too_large: the error for an item of that size.
        large_items: where bodies over the limit are kept; None: they are refused.
        compress_over_bytes: a longer text is compressed.
        offload_over_bytes: a longer body is kept in `large_items`.

    Attributes:
        sent_count: how many items were sent.
    """

    def __init__(
        self,
        remote: RemoteQueue,
        routing: Callable[[Push], BatchEntry],
        most_item_bytes: Callable[[], float],
        too_large: Callable[[int], ItemTooLarge],
        large_items: S3Store | None,
        *,
        compress_over_bytes: float,
        offload_over_bytes: float,
    ) -> None:
        self._remote = remote
        self._routing = routing
        self._most_item_bytes = most_item_bytes
        self._too_large = too_large
        self._large_items = large_items
        self._compress_over_bytes = compress_over_bytes
        self._offload_over_bytes = offload_over_bytes
        self.sent_count = 0

    async def send(self, pushes: Sequence[Push]) -> list[Exception | None]:
        """Send the items; None, or why it was not sent, for each in their order."""
        outcomes = await self._send_once(pushes)
        refused = {
            index: outcome
            for index, outcome in enumerate(outcomes)
            if isinstance(outcome, _TooLargeForSQS)
        }
        if refused:  # its limit is lower than was known; compressed, or in S3, they may still fit
            await self._note_too_large(list(refused.values()))
            again = await self._send_once([pushes[index] for index in refused])
            for index, outcome in zip(refused, again, strict=True):
                outcomes[index] = outcome
        self.sent_count += outcomes.count(None)
        return outcomes

    async def _send_once(self, pushes: Sequence[Push]) -> list[Exception | None]:
        outcomes: list[Exception | None] = [None] * len(pushes)
        entries: dict[int, BatchEntry] = {}
        for index, body in enumerate(await self._bodies(pushes)):
            if isinstance(body, BackendError):
                outcomes[index] = body
            else:
                entries[index] = self._entry(pushes[index], body)
        sizes = [len(entry["MessageBody"]) + attribute_bytes(entry) for entry in entries.values()]
        sent = await perform(
            self._remote,
            "SendMessageBatch",
            list(entries.values()),
            sizes,
            lambda index, code, text, _: _refused_push(code, text, sizes[index]),
        )
        for index, outcome in zip(entries, sent, strict=True):
            outcomes[index] = outcome
        return outcomes

    def _entry(self, push: Push, body: BatchEntry) -> BatchEntry:
        entry = {**body, **self._routing(push)}
        if "attributes" in push.item:
            attributes = sent_attributes(push.item)
            # The item has them, too. So they never make a message too large.
            size = len(body["MessageBody"]) + attribute_bytes(attributes)
            if size <= self._most_item_bytes():
                own = body.get("MessageAttributes", {})
                entry.update(attributes)
                if own:
                    entry["MessageAttributes"] = {**entry.get("MessageAttributes", {}), **own}
        return entry

    async def _note_too_large(self, refusals: Sequence["_TooLargeForSQS"]) -> None:
        """Learn the limit of the queue, now that it has refused items."""
        await self._learn_most_bytes()
        for refusal in refusals:
            size = refusal.size
            if size <= self._most_item_bytes():
                named = _MOST_IN_REFUSAL.search(str(refusal))
                most = int(named[1]) if named else OLDER_MOST_BYTES
                self._remote.most_bytes = most if most < size else size - 1

    def travelling_bytes(self, text: str, *, is_new: bool) -> int:
        """How many bytes are sent for an item's text; see `Queue`."""
        most = self._most_item_bytes()
        if len(text) <= most or len(text) > MAX_TEXT_BYTES:
            return len(text)  # compression never makes it longer, nor readable
        if self._large_items is not None:
            return self._large_items.reference_bytes
        size = len(encode(text, self._compress_over_bytes))
        return size if is_new or size <= most else len(encode(text, 0))

    async def _bodies(self, pushes: Sequence[Push]) -> Sequence[BatchEntry | BackendError]:
        """The body of each message, as fields of its entry, or why an item cannot be sent."""
        texts = [encode(push.text, self._compress_over_bytes) for push in pushes]
        if sum(map(len, texts)) > OLDER_MOST_BYTES:
            await self._learn_most_bytes()
        most = min(self._most_item_bytes(), self._offload_over_bytes)
        large = [
            (index, push.text, body)
            for index, (push, body) in enumerate(zip(pushes, texts, strict=True))
            if len(body) > most
        ]
        bodies: list[BatchEntry | BackendError] = [{"MessageBody": each} for each in texts]
        if large:
            fitting = [self._fitting_body(text, body) for _, text, body in large]
            for (index, *_), body in zip(large, await asyncio.gather(*fitting), strict=True):
                bodies[index] = body
        return bodies

    async def _learn_most_bytes(self) -> None:
        """Ask for the limit of this queue, if it may be lower than that of SQS."""
        try:
            await self._remote.learn_most_bytes()
        except Refused as error:
            # Without the permission to ask, the queue's first refusal shows it.
            _logger.debug("cannot read the message size limit of queue %s: %s", self._remote, error)

    async def _fitting_body(self, text: str, body: str) -> BatchEntry | BackendError:
        if self._large_items is not None:
            try:
                reference = await self._large_items.put(body)
            except BackendError as error:
                return error
            return {"MessageBody": reference, **size_field(reference, body)}
        body = encode(text, 0)
        if len(body) > self._most_item_bytes():
            return self._too_large(len(body))
        return {"MessageBody": body}


class _TooLargeForSQS(ItemTooLarge):
    """SQS refused an item for its size.

    Attributes:
        size: of its body.
    """

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


def _refused_push(code: str, text: str, size: int) -> Exception:
    if is_in(code, ("toolong", "toolarge", "sizeexceeded")) or "shorter than" in text:
        return _TooLargeForSQS(
            f"SQS refused the item of {size} bytes: {text}; pass a reference to the data instead, "
            "or give the factory large_items=S3Store(...)",
            size,
        )
    return BackendError(f"SQS refused the item: {text}")
