"""Messages that the Python 2 library has left in SQS: base64 of an escaped pickle of the item."""

from typing import Any

import pytest
from python2 import find_python2, run_python2
from sqs_server import SQSServer

from deferrable.aio import Deferrable
from deferrable.aio.backend.sqs import SQSBackendFactory
from deferrable.outcome import Outcome

pytestmark = pytest.mark.anyio

SOURCE = """
import base64, cPickle, sys, types

mail = sys.modules["mail"] = types.ModuleType("mail")
exec "def send(to, text, urgent): pass" in mail.__dict__

def dumps(value):
    return cPickle.dumps(value).encode("string_escape")

item = {
    "method": dumps(mail.send),
    "args": dumps((1, u"\\xe9\\u2028")),
    "kwargs": dumps(sorted({"urgent": True}.items())),
    "error_classes": dumps((ValueError, IOError)),
    "group": u"mail",
    "attempts": 0,
    "max_attempts": 5,
    "first_push_time": 1400000000.25,
    "last_push_time": 1400000000.25,
    "original_delay_seconds": 0,
    "original_debounce_seconds": 0,
    "original_debounce_always_delay": False,
    "original_delay": 0,
    "use_exponential_backoff": False,
    "delay": 0,
    "metadata": {},
}
print base64.b64encode(dumps(item))
"""

WRITTEN_ONCE = (
    "KGRwMVxuU1wnb3JpZ2luYWxfZGVib3VuY2VfYWx3YXlzX2RlbGF5XCdcbnAyXG5JMDBcbnNTXCd1c2VfZXhwb25lbnRp"
    "YWxfYmFja29mZlwnXG5wM1xuSTAwXG5zU1wnZ3JvdXBcJ1xucDRcblZtYWlsXG5wNVxuc1NcJ2Vycm9yX2NsYXNzZXNc"
    "J1xucDZcblNcJyhjZXhjZXB0aW9uc1xcXFxuVmFsdWVFcnJvclxcXFxucDFcXFxcbmNleGNlcHRpb25zXFxcXG5JT0Vy"
    "cm9yXFxcXG5wMlxcXFxudHAzXFxcXG4uXCdcbnA3XG5zU1wnb3JpZ2luYWxfZGVib3VuY2Vfc2Vjb25kc1wnXG5wOFxu"
    "STBcbnNTXCdhcmdzXCdcbnA5XG5TXCcoSTFcXFxcblZcXFxceGU5XFxcXFxcXFx1MjAyOFxcXFxucDFcXFxcbnRwMlxc"
    "XFxuLlwnXG5wMTBcbnNTXCdtZXRhZGF0YVwnXG5wMTFcbihkcDEyXG5zU1wnZGVsYXlcJ1xucDEzXG5JMFxuc1NcJ2F0"
    "dGVtcHRzXCdcbnAxNFxuSTBcbnNTXCdsYXN0X3B1c2hfdGltZVwnXG5wMTVcbkYxNDAwMDAwMDAwLjI1XG5zU1wnZmly"
    "c3RfcHVzaF90aW1lXCdcbnAxNlxuRjE0MDAwMDAwMDAuMjVcbnNTXCdrd2FyZ3NcJ1xucDE3XG5TIihscDFcXFxcbihT"
    "XFxcXFwndXJnZW50XFxcXFwnXFxcXG5wMlxcXFxuSTAxXFxcXG50cDNcXFxcbmEuIlxucDE4XG5zU1wnb3JpZ2luYWxf"
    "ZGVsYXlfc2Vjb25kc1wnXG5wMTlcbkkwXG5zU1wnb3JpZ2luYWxfZGVsYXlcJ1xucDIwXG5JMFxuc1NcJ21ldGhvZFwn"
    "XG5wMjFcblNcJ2NtYWlsXFxcXG5zZW5kXFxcXG5wMVxcXFxuLlwnXG5wMjJcbnNTXCdtYXhfYXR0ZW1wdHNcJ1xucDIz"
    "XG5JNVxucy4="
)
"""What a real 2.7.18 printed for `SOURCE`, whose dicts are unordered."""


@pytest.fixture(params=["once", "now"])
def body(request: pytest.FixtureRequest) -> str:
    """What Python 2 writes, or wrote."""
    if request.param == "once":
        return WRITTEN_ONCE
    if find_python2() is None:
        pytest.skip("there is no Python 2.7: set DEFERRABLE_PYTHON2 to one")
    return run_python2(SOURCE).strip()


async def test_message_of_python2_is_run_and_retried(
    sqs_server: SQSServer, sqs_group: str, body: str
) -> None:
    factory = SQSBackendFactory(sqs_server.connection(), wait_time=1)
    backend = factory.create_backend_for_group(sqs_group)
    await backend.queue.stats()
    (url,) = (
        each for each in sqs_server.queue_urls(f"deferrable_{sqs_group}") if "_error" not in each
    )
    sqs_server.client().send_message(QueueUrl=url, MessageBody=body)
    instance = Deferrable(backend)
    calls: list[Any] = []

    @instance.deferrable(name="mail:send")
    def send(to: int, text: str, urgent: bool) -> None:
        calls.append((to, text, urgent))
        if len(calls) == 1:
            raise OSError("as Python 2's IOError is called now")

    outcomes: list[Outcome | None] = [await instance.run_once() for _ in range(2)]

    assert [outcome and outcome.status for outcome in outcomes] == ["retried", "completed"]
    assert calls == [(1, "\u00e9\u2028", True)] * 2
