"""Good examples of what travels, for attacks to spoil.

Owns items, envelopes, pickles and SQS bodies as bytes, written by the library itself.
"""

import base64
import pickle
from typing import Any

from attacks.trust import JSON_CALL
from deferrable._codec.json import dump, load_item
from deferrable._codec.python2 import classic as _classic
from deferrable._codec.serializers import PickleSerializer
from deferrable.aio.backend.sqs._bodies import encode

__all__ = ["CLASSICS", "ENVELOPES", "ITEMS", "METHOD", "PICKLES", "SQS_BODIES"]

METHOD = _classic.dump_reference("module", "function")
CALL: dict[str, Any] = {
    "id": "1",
    "method": METHOD,
    "args": _classic.dumps((1, "é", [2.5, None])),
    "kwargs": _classic.dumps_kwargs({"a": b"\xff"}),
    "error_classes": _classic.dump_error_classes([ValueError, OSError]),
    "attempts": 1,
    "max_attempts": 3,
    "delay": 5,
    "due_time": 7.5,
    "ttl_seconds": 60,
    "item_queued_timestamp": 1.0,
    "use_exponential_backoff": True,
    "metadata": {"space": _classic.dumps("value")},
    "error": {"id": "1", "error_type": "ValueError"},
}
NEW_CALL: dict[str, Any] = {
    **CALL,
    **PickleSerializer().dump_call("m:f", (1, "é"), {"a": [2]}),
    **PickleSerializer().dump_error_classes([ValueError]),
}
TYPED_CALL: dict[str, Any] = {**NEW_CALL, **JSON_CALL}
ITEMS = (
    *(dump(call).encode() for call in (CALL, NEW_CALL, TYPED_CALL)),
    b'{"a" : [], "b":1.10,"c":"\\ud800"}',
)
ENVELOPES = tuple(
    b'{"first_ts":1.5,"ts":1.5,"item":' + item + b',"v":1,"ttl":null,"attempts":0}'
    for item in ITEMS
)
VALUES = [
    (1, "é"),
    {"a": [b"\xff", 2.5]},
    {1, 2},
    frozenset([3]),
    2**70,
    bytearray(b"x"),
    ValueError(1),
]
PICKLES = tuple(pickle.dumps(value, protocol) for value in VALUES for protocol in (0, 2, 4, 5))
SQS_BODIES = (
    *ITEMS,
    *(encode(item.decode(), 0).encode() for item in ITEMS[:2]),
    *(_classic.dumps(load_item(item)).encode() for item in ITEMS),
    *(base64.encodebytes(_classic.dumps(load_item(item)).encode()) for item in ITEMS),
    b"s3://bucket/name",
)
CLASSICS = tuple(
    text.encode()
    for text in [
        METHOD,
        _classic.dumps((1, "é", [b"\xff"])),
        _classic.dumps_kwargs({"a": 1}),
        str(_classic.dump_error_classes([ValueError, OSError])),
    ]
)
