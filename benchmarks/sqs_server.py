"""An SQS that answers at once, whatever it is asked: what remains is the client's own cost.

Owns canned answers in the AWS JSON protocol. It keeps no queue: sends and deletes succeed, and a
receive always brings as many messages as were asked for, each with the body that was sent last.
``python benchmarks/sqs_server.py`` prints its port and serves until its standard input ends;
``GET /counts`` answers how many requests there were of each action.
"""

import asyncio
import itertools
import json
import sys
from collections import Counter
from typing import ClassVar


class Canned(asyncio.Protocol):
    """One connection; requests come one after another on it."""

    counts: ClassVar[Counter[str]] = Counter()
    numbers = itertools.count()
    body = "{}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            length = int(_header(head, b"content-length") or 0)
            if len(self._data) < end + 4 + length:
                return
            body = self._data[end + 4 : end + 4 + length]
            self._data = self._data[end + 4 + length :]
            self._answer(_header(head, b"x-amz-target").rpartition(b".")[2].decode(), body)

    def _answer(self, action: str, body: bytes) -> None:
        answer: object
        if action:
            self.counts[action] += 1
            answer = getattr(self, f"_{action}", lambda request: {})(json.loads(body))
        else:
            answer = self.counts
        data = json.dumps(answer).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: "
            + str(len(data)).encode()
            + b"\r\n\r\n"
            + data
        )

    def _sendmessagebatch(self, request: dict) -> object:
        type(self).body = request["Entries"][-1]["MessageBody"]
        return {
            "Successful": [
                {"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "0" * 32}
                for entry in request["Entries"]
            ]
        }

    def _sendmessage(self, request: dict) -> object:
        type(self).body = request["MessageBody"]
        return {"MessageId": "m", "MD5OfMessageBody": "0" * 32}

    def _receivemessage(self, request: dict) -> object:
        numbers = itertools.islice(self.numbers, request.get("MaxNumberOfMessages", 1))
        return {
            "Messages": [
                {
                    "MessageId": f"m{number}",
                    # As long as AWS's are.
                    "ReceiptHandle": f"{number:0>300}",
                    "MD5OfBody": "0" * 32,
                    "Body": self.body,
                    "Attributes": {"ApproximateReceiveCount": "1"},
                }
                for number in numbers
            ]
        }

    def _deletemessagebatch(self, request: dict) -> object:
        return {"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]]}

    _changemessagevisibilitybatch = _deletemessagebatch


def _header(head: bytes, name: bytes) -> bytes:
    _, found, rest = head.partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else b""


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Canned, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
