"""Who is compared: names, what each needs installed, and the ways it has of enqueueing."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["NOT_PEERS", "PEERS", "RAW", "US", "US_FULL", "Peer", "choose"]

US, US_FULL, RAW = "deferrable", "deferrable-full", "raw"
NOT_PEERS = {RAW, US, US_FULL}
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
    """

    name: str
    needs: tuple[str, ...]
    ways: tuple[str, ...]
    oldest: tuple[int, int] = OLDEST
    module: str = ""
    variant: str = "plain"
    has_worker: bool = True

    @property
    def adapter(self) -> str:
        return self.module or self.name

    @property
    def is_async(self) -> bool:
        return "single" in self.ways or BATCH in self.ways


HIREDIS = "hiredis"
UNDECLARED = "typing_extensions"
"""Some import it without saying that they need it."""
PEERS = {
    peer.name: peer
    for peer in (
        Peer(RAW, (), (*ASYNC, BATCH, *BLOCKING), has_worker=False),
        Peer(US, (), (*ASYNC, BATCH, *BLOCKING)),
        Peer(US_FULL, (), (BATCH,), module="deferrable", variant="full"),
        Peer("arq", ("arq", HIREDIS), ASYNC),
        Peer("saq", ("saq[redis]", HIREDIS, UNDECLARED), ASYNC),
        Peer("streaq", ("streaq",), (*ASYNC, BATCH)),
        Peer("taskiq", ("taskiq", "taskiq-redis", HIREDIS), ASYNC),
        Peer("pydocket", ("pydocket", HIREDIS), (*ASYNC, BATCH)),
        Peer("repid", ("repid[redis]", HIREDIS, UNDECLARED), ASYNC),
        Peer("ardiq", ("ardiq",), (*ASYNC, BATCH), oldest=(3, 12)),
        Peer("dramatiq", ("dramatiq[redis]", HIREDIS), BLOCKING),
        Peer("rq", ("rq", HIREDIS), BLOCKING),
        Peer("huey", ("huey", "redis", HIREDIS), BLOCKING),
        Peer("celery", ("celery[redis]", HIREDIS), BLOCKING),
    )
}


def choose(names: Sequence[str]) -> list[Peer]:
    """The peers of these names, in the order of the catalogue; all of them for no names.

    Raises:
        ValueError: there is no such peer.
    """
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise ValueError(f"unknown peers {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return [peer for name, peer in PEERS.items() if not names or name in names]
