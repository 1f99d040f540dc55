"""Layers and arrows: which module may import which, and what an import costs.

The drawing is the one of the architecture: doors, facade, engine and adapters, contract, pure. Each
import statement of the package is an arrow, in functions too, and has to point down. Only a door
may name what is above it, if it imports that on first use.
"""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from processes import ROOT, run_program

from deferrable._extras import install_command

PACKAGE = "deferrable"

DOORS = {
    "deferrable",
    "deferrable.aio",
    "deferrable.aio.backend",
    "deferrable.aio.backend.dockets",
    "deferrable.aio.backend.memory",
    "deferrable.aio.backend.sqlite",
    "deferrable.aio.backend.sqs",
    "deferrable.aio.worker",
    "deferrable.backend",
    "deferrable.sync",
    "deferrable.testing",
}
CONTRACT = {
    "deferrable._portal",
    "deferrable.aio.backend.base",
    "deferrable.aio.clock",
    "deferrable.aio.debounce",
    "deferrable.aio.envelope",
    "deferrable.aio.queue",
    "deferrable.aio.results",
    "deferrable.aio.schedules",
}
HARNESS = tuple(f"deferrable.testing.{each}" for each in ("deferrals", "plugin", "simulation"))
MAY_IMPORT = {
    "pure": {"pure"},
    "contract": {"contract", "pure"},
    "engine": {"engine", "contract", "pure"},
    "adapter": {"adapter", "contract", "pure"},
    # What users hold. It stands above the engine, and finds the store of a `redis_client`.
    "instance": {"engine", "adapter", "contract", "pure"},
    "facade": {"facade", "door", "instance", "engine", "adapter", "contract", "pure"},
    "testing": {"testing", "facade", "contract", "pure"},
    # What tests of applications hold: an instance with another backend, and its ticks.
    "harness": {"harness", "testing", "door", "facade", "instance", "engine", "contract", "pure"},
    # What speaks to other people's libraries uses what any user could.
    "contrib": {"contrib", "door", "pure"},
    "cli": {"cli", "contrib", "door", "facade", "instance", "engine", "contract", "pure"},
    "door": {"pure"},
}


def layer_of(module: str) -> str:
    if module in DOORS:
        return "door"
    if module == "deferrable.aio.deferrable":
        return "instance"
    if module in CONTRACT or module.startswith("deferrable.aio._contract"):
        return "contract"
    if module.startswith(HARNESS):
        return "harness"
    _, room, *rest = module.split(".")
    if room in ("cli", "__main__"):
        return "cli"
    if room == "contrib":
        # Commands of Django and Flask are those of the command line.
        has_commands = rest[:2] == ["django", "management"] or rest[:1] == ["flask"]
        return "cli" if has_commands else "contrib"
    if room == "sync":
        return "facade"
    if room == "testing":
        return "testing"
    if room == "aio":
        return "adapter" if rest[0] == "backend" else "engine"
    return "pure"


@dataclass(frozen=True)
class Arrow:
    """One import of one module of the package by another."""

    source: str
    target: str
    line: int
    is_lazy: bool
    """For type checkers, or in a function: nothing is imported when the source is."""

    def __str__(self) -> str:
        return (
            f"{self.source}, line {self.line}: {layer_of(self.source)} imports "
            f"{layer_of(self.target)} {self.target}"
        )


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def arrows_in(module: str, source: str) -> Iterator[Arrow]:
    tree = ast.parse(source)
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        for target in targets_of(node):
            if target != module:
                yield Arrow(module, target, getattr(node, "lineno", 0), id(node) in lazy)


def targets_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "the package imports by full names"
        if node.module is not None and node.module.split(".")[0] == PACKAGE:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        first = node.args[0]
        if isinstance(first, ast.Constant) and str(first.value).startswith(PACKAGE):
            yield str(first.value)


def is_allowed(arrow: Arrow) -> bool:
    layer = layer_of(arrow.source)
    if layer == "door" and arrow.is_lazy:
        return True
    return layer_of(arrow.target) in MAY_IMPORT[layer]


@functools.cache
def all_arrows() -> list[Arrow]:
    """Those of the package. Found by the test that asks first, not while tests are collected."""
    return [arrow for name, path in MODULES.items() for arrow in arrows_in(name, path.read_text())]


def test_no_arrow_points_up() -> None:
    wrong = [str(arrow) for arrow in all_arrows() if not is_allowed(arrow)]

    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("deferrable.aio._engine.attempt", "from deferrable.sync._portal import portal"),
        (
            "deferrable.aio._engine.attempt",
            "from deferrable.aio.backend.memory import InMemoryQueue",
        ),
        ("deferrable.aio._engine.attempt", "from deferrable.aio.backend import memory"),
        (
            "deferrable.aio.backend.memory._queue",
            "def f():\n    from deferrable.aio._engine.attempt import Attempt",
        ),
        ("deferrable.aio.queue", "if TYPE_CHECKING:\n    from deferrable.aio.job import Job"),
        ("deferrable.sync._portal", "import deferrable.cli.app"),
        ("deferrable.lifecycle", "import deferrable.aio.clock"),
        ("deferrable.lifecycle", "from deferrable import Deferrable"),
        ("deferrable.testing.faults", "from deferrable.aio import deferrable"),
        ("deferrable.backend", "from deferrable.sync.backend import Backend"),
        ("deferrable.aio.job", "import deferrable.contrib.prometheus"),
        ("deferrable.contrib.prometheus", "from deferrable.aio._engine.keeper import keeper"),
        ("deferrable.aio.job", "importlib.import_module('deferrable.sync._portal')"),
    ],
)
def test_arrow_that_points_up_is_found(module: str, statement: str) -> None:
    arrows = list(arrows_in(module, statement))

    assert arrows
    assert not any(is_allowed(arrow) for arrow in arrows)


def test_every_named_room_exists() -> None:
    assert set(MODULES) >= CONTRACT | DOORS


def test_no_import_goes_in_a_circle() -> None:
    """In functions and for type checkers neither; but doors may name anything there."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for arrow in all_arrows():
        if not (arrow.is_lazy and layer_of(arrow.source) == "door"):
            graph[arrow.source].add(arrow.target)

    TopologicalSorter(graph).prepare()


# What an import needs.

BLOCK = """
import sys
for name in ("redis", "hiredis", "aiobotocore", "botocore", "boto3"):
    sys.modules[name] = None
"""


@pytest.mark.parametrize(
    "name", ["deferrable", "deferrable.aio", "deferrable.backend", "deferrable.aio.backend"]
)
def test_importing_a_door_loads_nothing_but_the_door(name: str) -> None:
    (loaded,) = run_program(
        f"""
        import sys
        before = set(sys.modules)
        import {name}
        print(*sorted(set(sys.modules) - before))
        """,
        "-S",
    )

    ours = {module for module in loaded.split() if module.startswith(PACKAGE)}
    others = {module.partition(".")[0] for module in loaded.split()} - {PACKAGE}
    assert all(layer_of(module) in ("door", "pure") for module in ours)
    assert not others & {"asyncio", "anyio", "redis", "aiobotocore", "msgspec", "ssl", "logging"}


def test_names_of_a_door_are_listed_before_they_are_resolved() -> None:
    lines = run_program(
        """
        import sys
        import deferrable, deferrable.aio, deferrable.backend, deferrable.aio.backend
        import deferrable.sync, deferrable.testing
        for door in (deferrable, deferrable.aio, deferrable.backend, deferrable.aio.backend,
                     deferrable.sync, deferrable.testing):
            assert set(door.__all__) <= set(dir(door)), door
        assert "deferrable.sync.deferrable" not in sys.modules
        """
    )

    assert lines == []


@pytest.mark.parametrize("door", sorted(DOORS - {"deferrable.testing"}))
def test_every_name_of_a_door_resolves_to_what_its_type_says(door: str) -> None:
    module = __import__(door, fromlist=["_"])
    tree = ast.parse(MODULES[door].read_text())
    typed = {
        alias.asname or alias.name: f"{node.module}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert sorted(typed) == sorted(module.__all__)
    for name, home in typed.items():
        assert getattr(module, name) is getattr(__import__(home, fromlist=["_"]), name)


def test_unknown_name_of_a_door_is_an_attribute_error() -> None:
    import deferrable

    with pytest.raises(AttributeError, match="module 'deferrable' has no attribute 'Deferable'"):
        deferrable.Deferable  # noqa: B018


def test_deferring_and_running_in_memory_need_no_extra() -> None:
    lines = run_program(
        BLOCK
        + """
import asyncio
import deferrable, deferrable.aio, deferrable.backend, deferrable.aio.backend

def both(package, backend):
    factory = backend.InMemoryBackendFactory()
    instance = package.Deferrable(factory.create_backend_for_group(None))
    return instance, instance.deferrable(name="job")(lambda number: number)

instance, job = both(deferrable, deferrable.backend)
job.later(1)
print(instance.run_once().result)

async def main():
    instance, job = both(deferrable.aio, deferrable.aio.backend)
    await job.later_async(2)
    print((await instance.run_once()).result)

asyncio.run(main())
"""
    )

    assert lines == ["1", "2"]


@pytest.mark.parametrize("missing", ["redis", "hiredis"])
@pytest.mark.parametrize(
    "use",
    [
        "deferrable.backend.DocketsBackendFactory('redis://localhost')",
        "deferrable.aio.backend.DocketsBackendFactory('redis://localhost')",
        "from deferrable.aio.backend import DocketsBackendFactory",
        "deferrable.Deferrable(backend, redis_client='redis://localhost')",
    ],
)
def test_missing_extra_is_named_with_the_command_that_installs_it(missing: str, use: str) -> None:
    (message,) = run_program(
        f"""
        import sys
        sys.modules[{missing!r}] = None
        import deferrable, deferrable.aio.backend, deferrable.backend
        factory = deferrable.backend.InMemoryBackendFactory()
        backend = factory.create_backend_for_group(None)
        try:
            {use}
        except ImportError as error:
            print(error)
        """
    )

    assert install_command("redis") in message
    assert repr(missing) in message
