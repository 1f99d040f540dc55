"""The ways: which files a call passes on its way through the package.

Owns how a call is traced and how its way looks. A way is the trace of a real call.

The one rule: nothing that differs between two runs is traced. So the time of the event loop stands
still, because a worker asks it how long a poll took. A task starts at once from Python 3.12 on, so
only `PYTHONS` draw ways, which agree.
"""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

from test_arrows import layer_of

from deferrable.aio import Deferrable, backend
from pictures import PACKAGE, ROOT
from pictures.layers import COLOURS, LAYERS
from pictures.svg import LETTER, MARGIN, path, svg, text

__all__ = ["PYTHONS", "draw_ways"]

PYTHONS = ((3, 12), (3, 13))
"""The versions that take the same ways."""


def draw_ways() -> dict[str, str]:
    """The pictures of all ways, by their names."""
    ways = {"later": later, "run-once": run_once, "worker": worker}
    return {f"way-{name}": draw_way(trace_of(way)) for name, way in ways.items()}


class _StillLoop(asyncio.SelectorEventLoop):
    def time(self) -> float:
        return 0.0


def trace_of(way: "Way") -> "list[Hop]":
    """The hops of `way`, on an event loop for which no time passes."""
    with asyncio.Runner(loop_factory=_StillLoop) as runner:
        return runner.run(traced(way))


@dataclass
class Hop:
    """A call that leads into another file."""

    file: str
    function: str
    layer: str
    caller: "Hop | None"

    @property
    def depth(self) -> int:
        return 0 if self.caller is None else self.caller.depth + 1


class Trace:
    """What is called in this thread between `start` and `stop`.

    For each file, its first function that is called is a hop, and so is each caller of such a
    function, in whichever file it is.
    """

    def __init__(self) -> None:
        self.hops: dict[CodeType, Hop] = {}
        self._files: set[str] = set()

    def start(self) -> None:
        gc.disable()  # What it finalizes would be seen as a call.
        sys.setprofile(self._note)

    def stop(self) -> None:
        sys.setprofile(None)
        gc.enable()

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and is_ours(frame) and file_of(frame) not in self._files:
            self._hop(frame)

    def _hop(self, frame: FrameType) -> Hop:
        code = frame.f_code
        if code not in self.hops:
            caller = frame.f_back
            while caller is not None and not is_ours(caller):
                caller = caller.f_back
            above = None if caller is None else self._hop(caller)
            file = file_of(frame)
            module = ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")
            function = code.co_qualname.rpartition("<locals>.")[2]
            self.hops[code] = Hop(file, function, layer_of(module), above)
            self._files.add(file)
        return self.hops[code]


def is_ours(frame: FrameType) -> bool:
    """Whether it runs a function of the package. Comprehensions are calls on some Pythons only."""
    code = frame.f_code
    return Path(code.co_filename).is_relative_to(PACKAGE) and not code.co_name.startswith("<")


def file_of(frame: FrameType) -> str:
    return Path(frame.f_code.co_filename).relative_to(ROOT).as_posix()


Way = Callable[[Deferrable, Callable[[], Awaitable[object]], Trace], Awaitable[None]]


async def traced(way: Way) -> list[Hop]:
    """The hops of `way`, on a queue in memory, once everything has been called before."""
    factory = backend.InMemoryBackendFactory()
    trace = Trace()
    async with Deferrable(factory.create_backend_for_group("mail")) as instance:

        @instance.deferrable(name="send")
        async def send() -> None: ...

        for each in (Trace(), trace):
            try:
                await way(instance, send.later_async, each)
            finally:
                each.stop()
            await instance.backend.queue.flush()
    return depth_first(trace.hops.values())


async def later(_: Deferrable, defer: Callable[[], Awaitable[object]], trace: Trace) -> None:
    trace.start()
    await defer()


async def run_once(
    instance: Deferrable, defer: Callable[[], Awaitable[object]], trace: Trace
) -> None:
    await defer()
    trace.start()
    await instance.run_once()


async def worker(
    instance: Deferrable, defer: Callable[[], Awaitable[object]], trace: Trace
) -> None:
    await defer()
    async with instance.worker() as running:
        trace.start()
        await anext(aiter(running))
        for _ in range(20):
            await asyncio.sleep(0)  # until the item is completed
        trace.stop()


def depth_first(hops: Iterable[Hop]) -> list[Hop]:
    """Each hop below its caller; else in their order."""
    hops = list(hops)

    def below(caller: Hop | None) -> Iterable[Hop]:
        for hop in hops:
            if hop.caller is caller:
                yield hop
                yield from below(hop)

    return list(below(None))


def draw_way(hops: Sequence[Hop]) -> str:
    order = {id(hop): number for number, hop in enumerate(hops)}
    tree_x, indent, top = MARGIN + 34, 18, MARGIN + 34
    names_end = max(tree_x + indent * hop.depth + 12 + len(hop.function) * LETTER for hop in hops)
    file_x = names_end + 24
    width = file_x + max(len(hop.file) for hop in hops) * LETTER + MARGIN
    parts = legend([layer for layer in LAYERS if any(hop.layer == layer for hop in hops)])
    twigs, rows = [], []
    for number, hop in enumerate(hops):
        x, y = tree_x + indent * hop.depth, top + 24 * number + 10
        if hop.caller is not None:
            above = top + 24 * order[id(hop.caller)] + 10
            twigs.append(path(f"M{x - indent} {above}V{y}H{x}", "twig"))
        digits = str(number + 1)
        rows.append(text(MARGIN + 18 - len(digits) * LETTER, y + 4, digits, "faint"))
        rows.append(f'<circle class="{hop.layer}-fill" cx="{x}" cy="{y}" r="5"/>')
        rows.append(text(x + 12, y + 4, hop.function, "name"))
        rows.append(text(file_x, y + 4, hop.file, f"{hop.layer}-fill"))
    return svg(width, top + 24 * len(hops) + MARGIN, [*parts, *twigs, *rows], COLOURS)


def legend(layers: Iterable[str]) -> list[str]:
    parts, x = [], float(MARGIN + 6)
    for layer in layers:
        name = LAYERS[layer][0]
        parts.append(f'<circle class="{layer}-fill" cx="{x:.1f}" cy="{MARGIN + 8}" r="5"/>')
        parts.append(text(x + 10, MARGIN + 12, name, "faint"))
        x += len(name) * LETTER + 36
    return parts
