"""A proxy between a client and an SQS that counts requests and lets a test spoil them.

Owns the forwarding of requests, what was asked, and what goes wrong: refusals, lost requests and
answers, batches that fail in part, messages that come twice or in another order. S3, which has
neither, it forwards under the method's name (``PUT``, ``GET``, ``DELETE``).

It runs in its own thread and loop, so that it can serve a test that blocks its loop.
"""

import asyncio
import io
import json
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

__all__ = [
    "Answer",
    "Exchange",
    "Fault",
    "Proxy",
    "Request",
    "add_duplicates",
    "answer",
    "drop_after",
    "drop_before",
    "fail_entries",
    "forward",
    "hang",
    "proxy_to",
    "redeliver",
    "reverse",
]

JSON = "application/x-amz-json-1.0"


@dataclass(frozen=True)
class Request:
    """One request as the client sent it.

    Attributes:
        action: ``SendMessageBatch`` and the like; of S3 the method.
        body: what it holds, if that is JSON, else an empty dict.
    """

    action: str
    method: str
    path: str
    headers: dict[str, str]
    data: bytes
    body: dict[str, Any]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """A batch's entries."""
        entries: list[dict[str, Any]] = self.body["Entries"]
        return entries


@dataclass
class Answer:
    """What the client gets; None instead of one: its connection breaks."""

    status: int
    data: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": JSON})

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.data)
        return body


Forward = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True)
class Exchange:
    """One request and the way on; ``forward(body)`` changes what the server is asked."""

    request: Request
    forward: Forward


Fault = Callable[[Exchange], Awaitable[Answer | None]]
"""What is done with one exchange, instead of simply forwarding it."""


# What may go wrong.


def answer(status: int, code: str, *, is_html: bool = False) -> Fault:
    """Answer an error, without asking the server. `code` is AWS's name of it."""
    data = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": f"injected {code}"})
    headers = {"Content-Type": JSON, "x-amzn-query-error": f"{code};Sender"}
    if is_html:  # as load balancers do
        data, headers = f"<html>{code}</html>", {"Content-Type": "text/html"}

    async def refuse(exchange: Exchange) -> Answer:
        return Answer(status, data.encode(), headers)

    return refuse


async def forward(exchange: Exchange) -> Answer:
    """This one goes well."""
    return await exchange.forward()


async def drop_before(exchange: Exchange) -> None:
    """Break the connection; the server was not asked."""


async def drop_after(exchange: Exchange) -> None:
    """Break the connection; the server has done what was asked."""
    await exchange.forward()


async def hang(exchange: Exchange) -> None:
    """Never answer; the server was not asked. (It ends with the proxy.)"""
    await asyncio.get_running_loop().create_future()


def fail_entries(
    places: Collection[int],
    code: str = "InternalError",
    *,
    is_senders: bool,
    has_effect: bool = False,
) -> Fault:
    """Make a batch's entries at `places` fail.

    Args:
        is_senders: what ``SenderFault`` says.
        has_effect: the server has done them all the same.
    """

    async def fail(exchange: Exchange) -> Answer:
        entries = exchange.request.entries
        doomed = [entry for place, entry in enumerate(entries) if place in places]
        sent = entries if has_effect else [entry for entry in entries if entry not in doomed]
        body: dict[str, Any] = {}
        if sent:
            body = (await exchange.forward({**exchange.request.body, "Entries": sent})).body
        ids = [entry["Id"] for entry in doomed]
        body["Successful"] = [one for one in body.get("Successful", ()) if one["Id"] not in ids]
        body.setdefault("Failed", []).extend(
            {"Id": each, "SenderFault": is_senders, "Code": code, "Message": f"injected {code}"}
            for each in ids
        )
        # As AWS does it: what is empty is absent.
        return _json_answer({name: value for name, value in body.items() if value})

    return fail


async def add_duplicates(exchange: Exchange) -> Answer:
    """Deliver each received message twice in the same answer."""
    return await _change_messages(exchange, lambda messages: messages * 2)


async def reverse(exchange: Exchange) -> Answer:
    """Deliver the received messages in the reverse order."""
    return await _change_messages(exchange, lambda messages: messages[::-1])


def redeliver() -> Fault:
    """Deliver the messages of one receive again with each later one that this strikes."""
    seen: list[dict[str, Any]] = []

    def again(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        old = list(seen)
        seen.extend(messages)
        return messages + old

    return lambda exchange: _change_messages(exchange, again)


async def _change_messages(
    exchange: Exchange, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> Answer:
    received = await exchange.forward()
    messages = change(received.body.get("Messages", []))[:10]
    return _json_answer({"Messages": messages} if messages else {})


def _json_answer(body: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(body).encode())


# The proxy.


class Proxy:
    """Forwards requests on its own port.

    Args:
        otherwise: what is done with an exchange for which nothing is scripted.

    Attributes:
        url: where clients go to.
        requests: every request, in order, those that went wrong too.
        most_at_once: how many requests of one action were under way at a time, at most.
    """

    def __init__(self, target: str, otherwise: Fault = forward) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.most_at_once: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._target = target.rstrip("/")
        self._otherwise = otherwise
        self._script: dict[str, deque[Fault]] = {}
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._started = threading.Event()
        self._session: ClientSession | None = None

    def script(self, action: str, *faults: Fault, times: int = 1) -> None:
        """Let the next requests for `action` meet `faults`, one each, the whole list `times`."""
        self._script.setdefault(action, deque()).extend(faults * times)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have `function` called on the loop that serves."""
        self._loop.call_soon_threadsafe(function)

    def clear(self) -> None:
        """Forget the faults that have not struck yet."""
        self._script.clear()

    @property
    def is_script_played(self) -> bool:
        """Whether every fault has struck."""
        return not any(self._script.values())

    @property
    def counts(self) -> Counter[str]:
        """How many requests there were of each action."""
        return Counter(request.action for request in self.requests)

    def sent(self, action: str) -> list[Request]:
        return [request for request in self.requests if request.action == action]

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        data = await incoming.read()
        action = incoming.headers.get("X-Amz-Target", "").rpartition(".")[2]
        request = Request(
            action or incoming.method,
            incoming.method,
            incoming.raw_path,
            dict(incoming.headers),
            data,
            json.loads(data) if action and data else {},
        )
        self.requests.append(request)
        result = await self._perform(request)
        if result is None:
            assert incoming.transport is not None
            incoming.transport.abort()
            return web.Response()  # which nobody gets
        return web.Response(status=result.status, body=result.data, headers=result.headers)

    async def _perform(self, request: Request) -> Answer | None:
        script = self._script.get(request.action)
        fault = script.popleft() if script else self._otherwise
        self._under_way[request.action] += 1
        self.most_at_once |= self._under_way
        try:
            return await fault(Exchange(request, lambda body=None: self._forward(request, body)))
        finally:
            self._under_way[request.action] -= 1

    async def _forward(self, request: Request, body: dict[str, Any] | None) -> Answer:
        data = request.data if body is None else json.dumps(body).encode()
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in ("content-length", "expect", "transfer-encoding")
        }
        assert self._session is not None
        async with self._session.request(
            request.method, self._target + request.path, data=io.BytesIO(data), headers=headers
        ) as response:
            kept = {
                name: value
                for name, value in response.headers.items()
                if name.lower().startswith(("content-type", "x-amz", "etag"))
            }
            return Answer(response.status, await response.read(), kept)

    # Its life.

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        async with ClientSession(auto_decompress=False) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            self.url = f"http://{host}:{port}"
            self._started.set()
            try:
                await self._stopped.wait()
            finally:
                await runner.cleanup()


@contextmanager
def proxy_to(target: str, otherwise: Fault = forward) -> Iterator[Proxy]:
    """A proxy to the server whose endpoint is `target`; it ends with the block."""
    proxy = Proxy(target, otherwise)
    thread = threading.Thread(target=proxy._run, name="proxy", daemon=True)
    thread.start()
    try:
        assert proxy._started.wait(60), "the proxy did not start"
        yield proxy
    finally:
        proxy.call_soon(proxy._stopped.set)
        thread.join(60)
