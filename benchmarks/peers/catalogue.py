"""Who is compared: names, what each needs installed, and the ways it has of enqueueing."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "FULL",
    "NOT_PEERS",
    "PEERS",
    "PROCESS",
    "RAW",
    "REDIS",
    "RESULTS",
    "STORES",
    "US",
    "US_FULL",
    "Peer",
    "choose",
    "names_of",
    "our_name",
]

US, US_FULL, RAW = "deferrable", "deferrable-full", "raw"
REDIS, PROCESS, FULL = "redis", "process", "full"
RESULTS = "results"
"""The variant of those whose jobs are awaited."""
STORES = {
    REDIS: "Redis",
    PROCESS: "a SQLite file, safe from a killed process",
    FULL: "a SQLite file, safe from a power cut",
}
"""Where jobs are kept: what is compared is of one store."""
NOT_PEERS = {RAW, US, US_FULL, f"{US}-file-{PROCESS}", f"{US}-file-{FULL}"}
"""Rows that nothing is compared with."""
ASYNC, BLOCKING = ("single", "concurrent"), ("blocking", "threads")
BATCH = "batch"
OLDEST = (3, 11)


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of what is measured.

    Attributes:
        needs: what is installed for it, the newest of each; nothing: it runs in the interpreter
            that runs the benchmark, on this checkout.
        ways: how it enqueues; see `produce`.
        oldest: the first Python it runs on.
        module: its file among the adapters.
        has_results: its adapter awaits what jobs return.
        store: where its jobs are; one of `STORES`.
    """

    name: str
    needs: tuple[str, ...]
    ways: tuple[str, ...]
    oldest: tuple[int, int] = OLDEST
    module: str = ""
    variant: str = "plain"
    has_worker: bool = True
    has_results: bool = False
    store: str = REDIS

    @property
    def adapter(self) -> str:
        return self.module or self.name

    @property
    def has_server(self) -> bool:
        return self.store == REDIS

    @property
    def is_async(self) -> bool:
        return "single" in self.ways or BATCH in self.ways


HIREDIS = "hiredis"
UNDECLARED = "typing_extensions"
"""Some import it without saying that they need it."""


def our_name(store: str) -> str:
    return US if store == REDIS else f"{US}-file-{store}"


def _in_a_file(durability: str) -> tuple[Peer, ...]:
    def peer(name: str, needs: tuple[str, ...], ways: tuple[str, ...], module: str) -> Peer:
        return Peer(
            f"{name}-{durability}", needs, ways, module=module, variant=durability, store=durability
        )

    return (
        peer(f"{US}-file", (), (*ASYNC, BATCH, *BLOCKING), US),
        peer("huey-file", ("huey",), BLOCKING, "huey_sqlite"),
        peer("litequeue", ("litequeue",), BLOCKING, "litequeue"),
        peer("persist-queue", ("persist-queue",), BLOCKING, "persist_queue"),
    )


PEERS = {
    peer.name: peer
    for peer in (
        Peer(RAW, (), (*ASYNC, BATCH, *BLOCKING), has_worker=False),
        Peer(US, (), (*ASYNC, BATCH, *BLOCKING), has_results=True),
        Peer(US_FULL, (), (BATCH,), module="deferrable", variant="full"),
        Peer("arq", ("arq", HIREDIS), ASYNC, has_results=True),
        Peer("saq", ("saq[redis]", HIREDIS, UNDECLARED), ASYNC, has_results=True),
        Peer("streaq", ("streaq",), (*ASYNC, BATCH)),
        Peer("taskiq", ("taskiq", "taskiq-redis", HIREDIS), ASYNC, has_results=True),
        Peer("pydocket", ("pydocket", HIREDIS), (*ASYNC, BATCH)),
        Peer("repid", ("repid[redis]", HIREDIS, UNDECLARED), ASYNC),
        Peer("ardiq", ("ardiq",), (*ASYNC, BATCH), oldest=(3, 12)),
        Peer("dramatiq", ("dramatiq[redis]", HIREDIS), BLOCKING),
        Peer("rq", ("rq", HIREDIS), BLOCKING, has_results=True),
        Peer("huey", ("huey", "redis", HIREDIS), BLOCKING),
        Peer("celery", ("celery[redis]", HIREDIS), BLOCKING),
        *_in_a_file(PROCESS),
        *_in_a_file(FULL),
    )
}


def names_of(store: str) -> list[str]:
    """The names of those that are compared in one table."""
    return [name for name, peer in PEERS.items() if peer.store == store]


def choose(names: Sequence[str]) -> list[Peer]:
    """The peers of these names, or of these stores, in the order of the catalogue.

    All of them for no names.

    Raises:
        ValueError: there is no such peer.
    """
    known = [*STORES, *PEERS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown peers {', '.join(unknown)}; there are {', '.join(known)}")
    return [
        peer for name, peer in PEERS.items() if not names or name in names or peer.store in names
    ]
