"""An SQS (and S3) of a third make: LocalStack, which has ``StartMessageMoveTask``.

Owns how a test session starts it. It needs its own environment, because it brings another moto
than the tests have; ``nox -s sqs-redrives`` makes that.
"""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from processes import DEADLINE_SECONDS

__all__ = ["localstack_sqs"]

SETTINGS = {
    "DISABLE_EVENTS": "1",
    "DNS_ADDRESS": "0",
    "OVERRIDE_IN_DOCKER": "0",  # else it writes to /var/lib
    "SERVICES": "sqs,s3",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "SQS_ENDPOINT_STRATEGY": "path",
}

ASKS_FOR_QUEUES = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "AmazonSQS.ListQueues",
}


@contextmanager
def localstack_sqs(python: str) -> Iterator[str]:
    """The URL of a server that ends with the block.

    Args:
        python: where it is installed.
    """
    with socket.create_server(("127.0.0.1", 0)) as place:
        address = f"127.0.0.1:{place.getsockname()[1]}"
    with TemporaryDirectory() as folder:
        own = {"FILESYSTEM_ROOT": folder, "GATEWAY_LISTEN": address, "LOCALSTACK_HOST": address}
        process = subprocess.Popen(
            [python, "-m", "localstack.runtime.main"],
            env={**os.environ, **SETTINGS, **own},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_answers(f"http://{address}", process)
            yield f"http://{address}"
        finally:
            process.kill()
            process.wait(timeout=DEADLINE_SECONDS)


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    # It loads a service when it is first asked for it, which may take longer than a client waits.
    asked = urllib.request.Request(url, b"{}", ASKS_FOR_QUEUES)
    end_time = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < end_time:
        try:
            urllib.request.urlopen(asked, timeout=DEADLINE_SECONDS).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"LocalStack does not answer at {url}; its exit code: {process.poll()}")
