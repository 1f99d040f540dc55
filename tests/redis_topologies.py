"""Redis in its larger forms for tests: a cluster of two nodes, a primary under a sentinel, TLS.

Owns setting them up from plain servers on the loopback interface.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from redis_server import RedisServer, free_port, start_redis

__all__ = ["Cluster", "start_cluster", "start_sentinel", "start_tls"]

SLOTS = 16384
SETTLE_SECONDS = 60.0


def wait_for(condition: Callable[[], object], description: str) -> None:
    deadline_time = time.monotonic() + SETTLE_SECONDS
    while not condition():
        if time.monotonic() > deadline_time:
            raise TimeoutError(f"gave up after {SETTLE_SECONDS} s of waiting until {description}")
        time.sleep(0.02)


class Cluster:
    """Two nodes; the first one holds the lower half of the slots."""

    def __init__(self, nodes: list[RedisServer]) -> None:
        self.nodes = nodes
        self.clients = [node.client() for node in nodes]
        self.ids = [client.execute_command("CLUSTER MYID").decode() for client in self.clients]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def owner_of(self, slot: int) -> int:
        return 0 if slot < SLOTS // 2 else 1

    def begin_move(self, slot: int) -> None:
        """From now on keys that are not there yet belong to the other node (ASK)."""
        old = self.owner_of(slot)
        new = 1 - old
        self.clients[new].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.ids[old])
        self.clients[old].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.ids[new])

    def move(self, slot: int) -> None:
        """Give an empty slot to the other node (MOVED)."""
        new = self.ids[1 - self.owner_of(slot)]
        for client in self.clients:
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", new)

    def take_back(self, slot: int) -> None:
        for client in self.clients:
            client.execute_command("CLUSTER SETSLOT", slot, "STABLE")
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", self.ids[self.owner_of(slot)])


@contextmanager
def start_cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                start_redis(
                    _port_with_bus(), {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
                )
            )
            for _ in range(2)
        ]
        cluster = Cluster(nodes)
        for index, client in enumerate(cluster.clients):
            stack.callback(client.close)
            half = range(index * SLOTS // 2, (index + 1) * SLOTS // 2)
            client.execute_command("CLUSTER ADDSLOTS", *half)
        cluster.clients[0].execute_command("CLUSTER MEET", nodes[1].host, nodes[1].port)
        wait_for(lambda: all(map(_is_whole, cluster.clients)), "the cluster has settled")
        yield cluster


def _is_whole(client: "redis.Redis") -> bool:
    info = client.execute_command("CLUSTER INFO")
    facts = (
        info
        if isinstance(info, dict)
        else dict(line.split(":", 1) for line in info.decode().split("\r\n") if line)
    )
    return facts["cluster_state"] == "ok" and facts["cluster_known_nodes"] == "2"


def _port_with_bus() -> int:
    """A port whose cluster bus, 10,000 above, is a port, too."""
    while (port := free_port()) > 55_000:
        pass
    return port


@contextmanager
def start_sentinel(primary: RedisServer, service: str) -> Iterator[RedisServer]:
    """A sentinel that watches `primary` under the name `service`."""
    config = {"sentinel monitor": f"{service} {primary.host} {primary.port} 1"}
    with start_redis(config=config) as sentinel:
        yield sentinel


@contextmanager
def start_tls(folder: Path) -> Iterator[tuple[str, Path]]:
    """A server that speaks TLS only: its URL, and the certificate to trust."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    config = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
    }
    try:
        with start_redis(config=config):
            yield f"rediss://localhost:{port}/0", certificate
    except AssertionError as error:
        if "tls" in str(error).lower():
            pytest.skip("this Redis was built without TLS")
        raise
