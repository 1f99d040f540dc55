"""Receive from one queue in SQS.

Owns the request that waits: how long, since when its messages are ours, and what the log says when
a stop has to wait for it.

A running receive is never cancelled, because its answer may already hold messages, which would
stay hidden until their visibility timeout. Only a receive whose answer is overdue is abandoned.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeAlias

from deferrable.aio._contract.loops import PerLoop
from deferrable.aio.backend.sqs._attributes import TRACE_HEADER
from deferrable.aio.backend.sqs._link import MARGIN_SECONDS, Answer
from deferrable.aio.backend.sqs._remote import RemoteQueue
from deferrable.aio.clock import Clock
from deferrable.errors import BackendUnavailable

__all__ = ["MAX_WAIT_SECONDS", "Message", "Receiver"]

MAX_WAIT_SECONDS = 20
"""Source: SQS API reference, ReceiveMessage, WaitTimeSeconds."""

_LOOK_SECONDS = 1.0
_LOOKS_IN_A_LEASE = 10
_ATTRIBUTES = ["ApproximateReceiveCount", "MessageGroupId"]
_ERROR_ATTRIBUTES = [
    "ApproximateFirstReceiveTimestamp",
    "DeadLetterQueueSourceArn",
    "MessageGroupId",
]

Message: TypeAlias = Mapping[str, Any]

_logger = logging.getLogger("deferrable")


class _Receive:
    """A running receive."""

    def __init__(self, remote: RemoteQueue, wait_seconds: float) -> None:
        self._remote = remote
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + wait_seconds
        self.is_answered = False
        self._is_interrupted = False

    def tell(self) -> None:
        """Log once that a stop waits for its end, if it has not ended."""
        rest_seconds = max(0.0, self._end - self._loop.time())
        if not (self.is_answered or self._is_interrupted):
            self._is_interrupted = True
            _logger.info(
                "waiting for a receive from %r, which may bring items: for at most %.0f s (%.0f s "
                "if SQS does not answer)",
                self._remote,
                rest_seconds,
                rest_seconds + MARGIN_SECONDS,
            )


class Receiver:
    """Receives from `remote`.

    Args:
        wait_seconds: how long SQS waits for a first message; whole, up to `MAX_WAIT_SECONDS`.
        lease_seconds: how long its messages are hidden; parts of seconds are rounded up.
        errors: the queue for failed items; nothing is received before it is known to exist. None:
            `remote` is an error queue, and a receive asks for the source of messages. Otherwise it
            asks how often they were received. Both ask for their group.
        reads_foreign: it asks when messages were sent, too.
    """

    def __init__(
        self,
        remote: RemoteQueue,
        wait_seconds: int,
        lease_seconds: float,
        clock: Clock,
        errors: RemoteQueue | None,
        *,
        reads_foreign: bool = False,
    ) -> None:
        self._remote = remote
        self._wait_seconds = wait_seconds
        self._clock = clock
        # A lease counts from at most two looks before its answer, and must be much longer than
        # that.
        self._look_seconds = min(_LOOK_SECONDS, lease_seconds / _LOOKS_IN_A_LEASE)
        self._parameters: dict[str, Any] = {"VisibilityTimeout": math.ceil(lease_seconds)}
        self._errors = errors
        names = [*(_ERROR_ATTRIBUTES if errors is None else _ATTRIBUTES), TRACE_HEADER]
        if reads_foreign:
            names.append("SentTimestamp")
        # A message that holds no item is buried with its attributes, by every consumer.
        self._parameters["MessageAttributeNames"] = ["All"]
        # Servers made before 2024 know only the second name. Without the attributes, nobody would
        # count receives there, and messages would have no group.
        self._parameters["MessageSystemAttributeNames"] = names
        self._parameters["AttributeNames"] = names
        self._under_way = PerLoop(_no_receives)

    async def receive(self, count: int, longest_seconds: float) -> tuple[Sequence[Message], float]:
        """Up to `count` messages, and a moment before which none of them was handed over.

        Args:
            longest_seconds: it waits no longer than this.

        Raises:
            BackendUnavailable: it was not answered `MARGIN_SECONDS` after its wait.
        """
        wait_seconds = math.floor(min(self._wait_seconds, longest_seconds))
        under_way = self._under_way.get()
        this = _Receive(self._remote, wait_seconds)
        under_way.add(this)
        receiving = asyncio.ensure_future(self._ask(count, wait_seconds))
        try:
            start_time = await self._wait_for(receiving, wait_seconds + MARGIN_SECONDS)
        finally:
            this.is_answered = True
            under_way.discard(this)
            is_overdue = receiving.cancel()  # also of a loop that is being shut down
        if is_overdue:
            raise BackendUnavailable(
                f"ReceiveMessage on {self._remote!r} was not answered {MARGIN_SECONDS:.0f} s after "
                f"its wait of {wait_seconds} s; is the endpoint reachable from here?"
            )
        return receiving.result().get("Messages", ()), start_time

    async def _ask(self, count: int, wait_seconds: int) -> Answer:
        if self._errors is not None:
            await self._errors.check()
        return await self._remote.receive(
            MaxNumberOfMessages=count, WaitTimeSeconds=wait_seconds, **self._parameters
        )

    async def _wait_for(self, receiving: "asyncio.Future[Answer]", longest_seconds: float) -> float:
        """Wait for the answer to a receive that was just sent, but for no longer than that.

        Returns:
            a moment before which it was not handed over. An answer that was not here at the look
            before the last was handed over after that look. The last look is not enough: after a
            pause of the process an answer is read only after the look that follows the pause.
        """
        loop = asyncio.get_running_loop()
        last_look_time = loop.time() + longest_seconds - self._look_seconds
        before_last_time = last_time = self._clock.monotonic()
        is_last = False
        while not (receiving.done() or is_last):
            is_last = loop.time() >= last_look_time
            await asyncio.wait([receiving], timeout=self._look_seconds)
            if not receiving.done():
                before_last_time, last_time = last_time, self._clock.monotonic()
        return before_last_time

    def end_waits(self) -> None:
        """Log in a moment which receives still run on the running loop."""
        for receive in self._under_way.get():
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, receive.tell)


async def _no_receives() -> AsyncGenerator[set[_Receive], None]:
    yield set()
