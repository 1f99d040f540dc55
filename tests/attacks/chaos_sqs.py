"""An SQS that a chaos run attacks: moto behind a proxy through which all places go.

Owns what goes wrong with the requests of each place. A place is known by its access key.

The one rule: moto is asked one thing at a time, and whatever reached it is done to its end. Asked
by several at once it hands a message to two of them, and loses what is sent while another is
deleted; a connection that breaks while it answers must not change that. Therefore long polls wait
here, and not there.
"""

import asyncio
import json
import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Self

from sqs_proxy import (
    Answer,
    Exchange,
    add_duplicates,
    answer,
    drop_after,
    drop_before,
    fail_entries,
    hang,
    proxy_to,
    redeliver,
    reverse,
)
from sqs_proxy import Fault as Spoiling
from sqs_server import moto, server_at

from attacks.chaos_causes import Fault

__all__ = ["SQSBroker"]

HANG_SECONDS = 4.0
CUT_SECONDS = 10.0
LOOK_SECONDS = 0.1
BOOKS = "books"
"""The place of code that only looks; nothing goes wrong there."""

ANY, BATCH, RECEIVE = "Message", "Batch", "ReceiveMessage"
DOUBLING = (
    "connections dropped after the effect",
    "request hung",
    "batch's first entry done, but refused",
)
"""What may have a request done twice, or too late. The rest did nothing, or changed nothing."""
DELIVERED_AGAIN = ("messages doubled", "messages delivered again")

SPOILS: Mapping[str, tuple[str, Callable[[], Sequence[Spoiling]]]] = {
    "requests throttled": (ANY, lambda: [answer(400, "RequestThrottled")] * 3),
    "requests answered 500": (ANY, lambda: [answer(500, "InternalError")] * 3),
    "requests answered 503": (ANY, lambda: [answer(503, "ServiceUnavailable")] * 3),
    "connections dropped before the effect": (ANY, lambda: [drop_before] * 3),
    "connections dropped after the effect": (ANY, lambda: [drop_after] * 3),
    "request hung": (ANY, lambda: [hang]),
    "batch's first entry done, but refused": (
        BATCH,
        lambda: [fail_entries((0,), is_senders=False, has_effect=True)],
    ),
    "messages reversed": (RECEIVE, lambda: [reverse] * 3),
    "messages doubled": (RECEIVE, lambda: [add_duplicates]),
    "messages delivered again": (RECEIVE, lambda: [redeliver()] * 2),
}
"""What may go wrong with requests: with which, as a part of their names, and how, one by one."""


class _Wire:
    """The way of one place to the server.

    Args:
        spoilt, faults: what went wrong is added to them.
    """

    def __init__(self, place: str, spoilt: Counter[str], faults: list[Fault]) -> None:
        self.is_parted = False
        self._place = place
        self._spoilt = spoilt
        self._faults = faults
        self._coming: deque[tuple[str, str, Spoiling]] = deque()
        self._under_way: set[asyncio.Task[Answer | None]] = set()

    def spoil(self, kind: str) -> None:
        part, make = SPOILS[kind]
        self._coming.extend((part, kind, each) for each in make())

    def mend(self) -> None:
        self._coming.clear()

    def cut(self) -> None:
        """Break the connections, on the loop that serves them."""
        for task in self._under_way:
            task.cancel()

    async def serve(self, exchange: Exchange) -> Answer | None:
        if self.is_parted:
            return None
        doing = asyncio.ensure_future(self._perform(exchange))
        self._under_way.add(doing)
        try:
            return await doing
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise  # the caller has gone
            return None
        finally:
            self._under_way.discard(doing)

    async def _perform(self, exchange: Exchange) -> Answer | None:
        spoil = self._next_spoil(exchange.request.action)
        if spoil is None:
            return await exchange.forward()
        kind, spoiling = spoil
        begin, result = time.monotonic(), None
        try:
            async with asyncio.timeout(HANG_SECONDS):
                result = await spoiling(exchange)
        except TimeoutError:
            pass
        finally:
            self._note(kind, begin, result)
        return result

    def _next_spoil(self, action: str) -> tuple[str, Spoiling] | None:
        for coming in self._coming:
            part, kind, spoiling = coming
            if part in action:
                self._coming.remove(coming)
                return kind, spoiling
        return None

    def _note(self, kind: str, begin: float, result: Answer | None) -> None:
        end = time.monotonic()
        self._spoilt[kind] += 1
        if kind in DOUBLING:
            self._faults.append(Fault(kind, self._place, begin, end, 1))
        elif kind in DELIVERED_AGAIN and result is not None:
            self._faults.extend(Fault(kind, item_id, begin, end) for item_id in _item_ids(result))


def _item_ids(received: Answer) -> set[str]:
    messages = received.body.get("Messages", ())
    return {json.loads(each["Body"])["id"] for each in messages}


class SQSBroker:
    """A moto, which forgets everything when it is killed."""

    can_crash = False
    can_be_full = False
    has_wires = True
    spoils: Sequence[str] = tuple(SPOILS)

    def __init__(self) -> None:
        self.spoilt: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self._wires: dict[str, _Wire] = {}
        self._asking: set[asyncio.Task[Answer]] = set()
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs every request
        with ExitStack() as stack:
            target = stack.enter_context(moto())
            self._proxy = stack.enter_context(proxy_to(target, self._serve))
            self.url = await self.url_of(BOOKS)
            self._server = stack.enter_context(closing(server_at(self.url)))
            await asyncio.to_thread(self._server.client)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._stack.close()

    async def url_of(self, place: str) -> str:
        self._wires.setdefault(place, _Wire(place, self.spoilt, self.faults))
        return self._proxy.url.replace("//", f"//{place}@")

    def cut(self, place: str) -> None:
        # It waits for it: what is under way only then is cut, too, and the fault has to cover it.
        is_done = threading.Event()
        self._proxy.call_soon(self._wires[place].cut)
        self._proxy.call_soon(is_done.set)
        is_done.wait(CUT_SECONDS)

    def lose_reply(self, place: str) -> None:
        self.spoil(place, "connections dropped after the effect")

    def spoil(self, place: str, kind: str) -> None:
        self._proxy.call_soon(partial(self._wires[place].spoil, kind))

    def mend(self) -> None:
        for wire in self._wires.values():
            self._proxy.call_soon(wire.mend)

    def part(self, place: str) -> None:
        self._wires[place].is_parted = True
        self.cut(place)

    async def rejoin(self, place: str) -> None:
        self._wires[place].is_parted = False

    async def crash(self, down_seconds: float) -> None:
        raise NotImplementedError("it would forget everything")

    async def ping(self) -> None:
        await asyncio.to_thread(self._server.queue_urls, "")

    async def left(self) -> Sequence[str]:
        return await asyncio.to_thread(self._left)

    def _left(self) -> Sequence[str]:
        client = self._server.client()
        left = []
        for url in self._server.queue_urls(""):
            counts = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            left += [
                f"{number} in {url}: {name}"
                for name, number in counts.items()
                if name.startswith("ApproximateNumber") and number != "0"
            ]
        return left

    # What the proxy does, on its own loop.

    async def _serve(self, exchange: Exchange) -> Answer | None:
        credential = exchange.request.headers["Authorization"]
        place = re.sub(r".*Credential=([^/]+)/.*", r"\1", credential)
        through = partial(self._forward, exchange)
        return await self._wires[place].serve(Exchange(exchange.request, through))

    async def _forward(self, exchange: Exchange, body: dict[str, Any] | None = None) -> Answer:
        asking = asyncio.ensure_future(self._ask(exchange, body or exchange.request.body))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        return await asyncio.shield(asking)

    async def _ask(self, exchange: Exchange, body: dict[str, Any]) -> Answer:
        if exchange.request.action != RECEIVE:
            async with self._turn:
                return await exchange.forward(body)
        end = time.monotonic() + body.get("WaitTimeSeconds", 0)
        while True:
            async with self._turn:
                received = await exchange.forward({**body, "WaitTimeSeconds": 0})
            if "Messages" in received.body or time.monotonic() >= end:
                return received
            await asyncio.sleep(LOOK_SECONDS)
