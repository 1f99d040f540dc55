"""The port of a worker process: every request is answered, or its connection is closed in time."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from typing import NoReturn

import pytest
from commands import call_command

from deferrable.cli.web import (
    MOST_CONNECTIONS,
    MOST_HEAD_BYTES,
    Answer,
    Request,
    WebServer,
    json_answer,
    listen,
)

DEADLINE_SECONDS = 30
STATS = "cli_app.jobs:stats"
AWAY = {"REDIS_URL": "redis://127.0.0.1:1/0", "GROUP": "x"}


def hello(request: Request) -> Answer:
    return json_answer(200, {"verb": request.verb, "accept": request.headers.get("accept")})


def fail(request: Request) -> NoReturn:
    raise ValueError("no")


@contextmanager
def served(request_seconds: float = DEADLINE_SECONDS) -> Iterator[int]:
    """The port of a server."""
    listener = socket.create_server(("127.0.0.1", 0))
    with WebServer(listener, {"/hello": hello, "/fail": fail}, request_seconds):
        yield listener.getsockname()[1]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def exchange(port: int, sent: bytes, *, is_closed: bool = False) -> bytes:
    """What comes back for `sent`, up to the end of the connection."""
    with connect(port) as connection:
        connection.sendall(sent)
        if is_closed:
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def test_a_request_is_answered_with_its_headers() -> None:
    with served() as port:
        response = exchange(port, b"GET /hello?x=1 HTTP/1.1\r\nAccept: text/plain\r\n\r\n")

    head, _, body = response.partition(b"\r\n\r\n")
    assert status_of(response) == 200
    assert json.loads(body) == {"verb": "GET", "accept": "text/plain"}
    assert f"Content-Length: {len(body)}".encode() in head


def test_an_answer_to_head_has_no_body() -> None:
    with served() as port:
        response = exchange(port, b"HEAD /hello HTTP/1.1\r\n\r\n")

    assert status_of(response) == 200
    assert response.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /hello HTTP/1.0\r\n\r\n", 200),
        (b"GET http://127.0.0.1/hello HTTP/1.1\r\n\r\n", 200),
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"GET /fail HTTP/1.1\r\n\r\n", 500),
        (b"DELETE /hello HTTP/1.1\r\n\r\n", 405),
        (b"GET /hello\r\n\r\n", 400),
        (b"GET  /hello HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET http://[1 HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\xff\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nX: " + b"x" * MOST_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"x" * (4 * MOST_HEAD_BYTES), 431),
    ],
)
def test_every_request_gets_an_answer(sent: bytes, status: int) -> None:
    with served() as port:
        response = exchange(port, sent)

    assert status_of(response) == status


def test_a_request_that_ends_early_is_refused() -> None:
    with served() as port:
        response = exchange(port, b"GET /hello HTTP/1.1\r\nHo", is_closed=True)

    assert status_of(response) == 400


def test_a_client_that_only_connects_is_closed_without_an_answer() -> None:
    with served() as port:
        assert exchange(port, b"", is_closed=True) == b""


def test_a_refusal_reaches_a_client_that_sends_a_body() -> None:
    with served() as port:
        sent = b"POST /hello HTTP/1.1\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000
        response = exchange(port, sent, is_closed=True)

    assert status_of(response) == 405


@pytest.mark.parametrize("sent", [b"", b"GET /hello HTTP/1.1\r\nX: 1\r\n"])
def test_a_request_that_takes_too_long_is_refused(sent: bytes) -> None:
    with served(request_seconds=0.05) as port:
        response = exchange(port, sent)

    assert status_of(response) == 408


def test_silent_connections_keep_nobody_from_an_answer() -> None:
    with ExitStack() as stack, served() as port:
        silent = [stack.enter_context(connect(port)) for _ in range(MOST_CONNECTIONS + 20)]
        for connection in silent:
            connection.sendall(b"GET /hello HTTP/1.1\r\n")

        response = exchange(port, b"GET /hello HTTP/1.1\r\n\r\n")

        assert status_of(response) == 200
        # The oldest one was closed, whether at its end or with a reset.
        with suppress(ConnectionResetError):
            assert silent[0].recv(1) == b""


def test_open_connections_do_not_delay_the_end() -> None:
    with ExitStack() as stack:
        with served() as port:
            connection = stack.enter_context(connect(port))
            connection.sendall(b"GET /hello HTTP/1.1\r\n")
            assert status_of(exchange(port, b"GET /hello HTTP/1.1\r\n\r\n")) == 200

        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


# The commands that have a port.


@pytest.mark.parametrize(
    ("command", "option", "what"),
    [
        ("worker", "--health-port", "health"),
        ("exporter", "--port", "metrics"),
        ("dashboard", "--port", "the dashboard"),
    ],
)
def test_a_port_in_use_is_one_line_that_names_it_and_the_option(
    command: str, option: str, what: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = call_command(command, STATS, option, port, variables=AWAY)

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line == (
        f"Error: cannot serve {what} on 127.0.0.1:{port}: Address already in use; choose another "
        f"{option} or {option.replace('port', 'host')}"
    )


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_log_says_what_is_served_where(host: str, shown: str) -> None:
    listener = listen(host, 0, "health")
    port = listener.getsockname()[1]
    with WebServer(listener, {"/hello": hello, "/fail": fail}) as server:
        pass

    assert server.summary == f"/hello, /fail on http://{shown}:{port}"


def test_the_wildcard_of_ipv6_answers_ipv4_too() -> None:
    listener = listen("::", 0, "health")
    port = listener.getsockname()[1]

    with WebServer(listener, {"/hello": hello}):
        answers = [ask(host, port) for host in ("127.0.0.1", "::1")]

    assert answers == [200, 200]


def ask(host: str, port: int) -> int:
    connection = HTTPConnection(host, port, timeout=DEADLINE_SECONDS)
    connection.request("GET", "/hello")
    status = connection.getresponse().status
    connection.close()
    return status


def test_an_address_of_ipv6_may_stand_in_brackets() -> None:
    listener = listen("[::1]", 0, "health")

    assert listener.getsockname()[0] == "::1"
    listener.close()
