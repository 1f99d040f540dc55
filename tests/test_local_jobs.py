"""Jobs that no other process could find, on a backend that has no other process: in memory."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from faces import Face

from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory
from deferrable.errors import UnserializableCall

pytestmark = pytest.mark.anyio

BLOCKING = """
    from dataclasses import dataclass
    from deferrable import Deferrable, backend

    jobs = Deferrable(backend.InMemoryBackendFactory().create_backend_for_group("jobs"){options})

    @dataclass
    class Order:
        number: int

    @jobs.deferrable
    def ship(order: Order) -> int:
        return order.number

    ship.later(Order(7))
    outcome = jobs.run_once()
    print(outcome.status, outcome.result)
"""
AWAITING = """
    import asyncio
    from deferrable.aio import Deferrable, backend

    jobs = Deferrable(backend.InMemoryBackendFactory().create_backend_for_group("jobs"){options})

    @jobs.deferrable(error_classes=[KeyError], use_exponential_backoff=False)
    async def ship(number: int) -> int:
        return number

    async def main():
        await ship.later_async(7)
        outcome = await jobs.run_once()
        print(outcome.status, outcome.result)

    asyncio.run(main())
"""


@pytest.mark.parametrize("source", [BLOCKING, AWAITING], ids=["blocking", "awaiting"])
@pytest.mark.parametrize("options", ["", ", serializer='json'"])
def test_a_function_typed_into_an_interpreter_is_deferred(
    source: str, options: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-"],
        input=textwrap.dedent(source.format(options=options)),
        text=True,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        timeout=60,
        check=False,
    )

    assert done.stdout == "completed 7\n", done.stderr


@pytest.mark.parametrize("scope", [{}, {"__name__": "nowhere"}, {"__name__": "__main__"}])
async def test_a_function_made_by_exec_is_deferred(face: Face, scope: dict[str, Any]) -> None:
    scope["instance"] = face.instance
    exec("@instance.deferrable\ndef double(x): return 2 * x\n", scope)

    await face.later(scope["double"], 4)

    assert (await face.run()).result == 8


async def test_a_function_without_a_name_of_its_own_is_refused_in_memory_too(face: Face) -> None:
    def nested() -> None: ...

    for function in (nested, lambda: None):
        with pytest.raises(UnserializableCall, match="no other process could find it"):
            await face.later(face.instance.deferrable(function))

    assert await face.stats() == (0, 0, 0)


async def test_a_function_made_by_exec_is_refused_where_other_processes_consume() -> None:
    backend = DocketsBackendFactory("redis://127.0.0.1:1/0").create_backend_for_group(None)
    scope: dict[str, Any] = {"instance": Deferrable(backend), "__name__": "nowhere"}
    exec("@instance.deferrable\ndef double(x): return 2 * x\n", scope)

    with pytest.raises(UnserializableCall, match="nowhere is not loaded"):
        await scope["double"].later_async(4)
