"""Finding an item's call: what runs is a job of this very instance, whatever the item says."""

import sys
import types
from pathlib import Path
from typing import Any, NoReturn

import pytest
from faces import Face

from deferrable.aio import Deferrable
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.errors import InvalidOptions, UnreadableItem

pytestmark = pytest.mark.anyio

instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))
other_instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))


@instance.deferrable
def registered() -> str:
    return "registered"


def unregistered() -> NoReturn:
    raise AssertionError("it must never run")


async def item_called(name: str) -> dict[str, Any]:
    await registered.later_async()
    envelope, item = await instance.backend.queue.pop()
    assert envelope is not None
    assert item is not None
    await instance.backend.queue.complete(envelope)
    return {**item, "method": name}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module that is importable, and not imported yet."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_jobs_are_found_by_module_and_qualified_name() -> None:
    assert instance.registry[f"{__name__}:registered"] is registered
    assert f"{__name__}:registered" in list(instance.registry)
    assert len(other_instance.registry) == 0


async def test_a_registered_name_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> NoReturn:
        raise AssertionError(name)

    item = await item_called(f"{__name__}:registered")
    monkeypatch.setattr("importlib.import_module", refuse)

    assert instance.registry.find(item).job is registered


async def test_a_module_not_imported_yet_is_imported_and_registers_its_jobs(module: Any) -> None:
    name = module(
        "deferred_elsewhere",
        "from test_registry import instance\n"
        "@instance.deferrable\n"
        "def work():\n"
        "    return 'found'\n",
    )

    call = instance.registry.find(await item_called(f"{name}:work"))

    assert call.function() == "found"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"{__name__}:missing", "not a job of this instance"),
        (f"{__name__}:unregistered", "not a job of this instance"),
        ("no_such_module:work", "importing no_such_module raised ModuleNotFoundError"),
        ("os:system", "not a job of this instance"),
        ("plain name", "not a job of this instance"),
        (":work", "it is not module:qualname"),
        (".relative:work", "it is not module:qualname"),
        ("a b c:work", "it is not module:qualname"),
        ("os/../x:work", "it is not module:qualname"),
        ("os:", "it is not module:qualname"),
        ("os:system:x", "it is not module:qualname"),
        ("os:<lambda>", "it is not module:qualname"),
        ("builtins:eval", "not a job of this instance"),
        ("__main__:work", "__main__ is private"),
        ("json.__main__:main", "__main__ is private"),
        ("_thread:exit", "_thread is private"),
        ("os:_exit", "_exit is private"),
        ("os:path.__dict__", "__dict__ is private"),
    ],
)
async def test_a_name_of_no_job_is_unreadable_and_says_why(name: str, reason: str) -> None:
    item = await item_called(name)

    with pytest.raises(UnreadableItem, match=reason) as caught:
        instance.registry.find(item)

    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "raise ValueError('broken')",
        "raise SystemExit(1)",
        "raise StopIteration",
        "import asyncio; raise asyncio.CancelledError",
        "1 +",
    ],
)
async def test_a_module_that_raises_on_import_is_unreadable(module: Any, line: str) -> None:
    name = module("broken_module", line)

    with pytest.raises(UnreadableItem, match="importing broken_module raised"):
        instance.registry.find(await item_called(f"{name}:work"))


async def test_an_interrupt_during_an_import_is_no_fault_of_the_item(module: Any) -> None:
    name = module("interrupted_module", "raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        instance.registry.find(await item_called(f"{name}:work"))


async def test_a_module_whose_error_has_no_text_is_unreadable(module: Any) -> None:
    name = module(
        "unspeakable_module",
        "class Unspeakable(Exception):\n"
        "    def __str__(self):\n"
        "        raise SystemExit\n"
        "raise Unspeakable\n",
    )

    with pytest.raises(UnreadableItem, match="raised Unspeakable"):
        instance.registry.find(await item_called(f"{name}:work"))


async def test_jobs_of_another_instance_are_not_found() -> None:
    item = await item_called(f"{__name__}:registered")

    with pytest.raises(UnreadableItem, match="decorated with this instance"):
        other_instance.registry.find(item)


async def test_a_given_name_imports_nothing(face: Face) -> None:
    job = face.job(lambda: "found", name="no_such_module:work")

    await face.later(job)

    assert (await face.run()).result == "found"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("_private_trap:work", None),
        ("trap:_work", None),
        ("trap:Class.__call__", None),
        ("trap:work", ()),
        ("trap:work", ("app.",)),
        ("trap:work", ("trap.inner",)),
        ("trap:work", ("tra", "rap.", "trapped")),
    ],
)
async def test_what_may_not_be_imported_is_not(
    module: Any, tmp_path: Path, name: str, allowed: Any
) -> None:
    sprung = tmp_path / "sprung"
    module(name.partition(":")[0], f"open({str(sprung)!r}, 'w').close()\nclass Class: ...\n")
    careful = Deferrable(instance.backend, import_from=allowed)

    with pytest.raises(UnreadableItem, match="nothing was imported for it, because"):
        careful.registry.find(await item_called(name))

    assert not sprung.exists()


@pytest.mark.parametrize("allowed", [("trap.",), ("trap",), ("app.", "trap.")])
async def test_what_may_be_imported_is(module: Any, tmp_path: Path, allowed: Any) -> None:
    sprung = tmp_path / "sprung"
    module("trap", f"open({str(sprung)!r}, 'w').close()\n")
    careful = Deferrable(instance.backend, import_from=allowed)

    with pytest.raises(UnreadableItem, match="not a job of this instance; import"):
        careful.registry.find(await item_called("trap:work"))

    assert sprung.exists()


async def test_a_job_that_is_registered_may_be_private_and_lie_anywhere() -> None:
    careful = Deferrable(instance.backend, import_from=())
    job = careful.deferrable(name="_private:__work__")(lambda: None)

    assert careful.registry.find(await item_called("_private:__work__")).job is job


async def test_nothing_is_imported_for_an_item_that_is_not_accepted(
    module: Any, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    module("trap", f"open({str(sprung)!r}, 'w').close()\n")
    careful = Deferrable(instance.backend, accept=("json",))

    with pytest.raises(UnreadableItem, match="accepts only 'json'"):
        careful.registry.find(await item_called("trap:work"))

    assert not sprung.exists()


@pytest.mark.parametrize("keys", [(), (b"k" * 32,)])
async def test_a_consumer_that_reads_no_pickles_imports_nothing_by_default(
    module: Any, tmp_path: Path, keys: tuple[bytes, ...]
) -> None:
    sprung = tmp_path / "sprung"
    module("trap", f"open({str(sprung)!r}, 'w').close()\n")
    backend = InMemoryBackendFactory().create_backend_for_group(None)
    options: Any = {"serializer": "json", "accept": ("json",), "signing_keys": keys}
    producer, consumer = Deferrable(backend, **options), Deferrable(backend, **options)
    await producer.deferrable(name="trap:work")(lambda: None).later_async()

    outcome = await consumer.run_once()

    assert outcome is not None
    assert outcome.status == "errored"
    assert "nothing was imported for it" in str(outcome.error)
    assert not sprung.exists()


async def test_a_consumer_of_json_imports_from_where_it_is_told_to(
    module: Any, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    module("trap", f"open({str(sprung)!r}, 'w').close()\n")
    backend = InMemoryBackendFactory().create_backend_for_group(None)
    producer = Deferrable(backend, serializer="json")
    consumer = Deferrable(backend, accept=("json",), import_from=("trap",))
    await producer.deferrable(name="trap:work")(lambda: None).later_async()

    await consumer.run_once()

    assert sprung.exists()


@pytest.mark.parametrize("import_from", ["app.", ("",), (".",), (5,)])
def test_places_to_import_from_that_are_none_are_refused(face: Face, import_from: Any) -> None:
    with pytest.raises(InvalidOptions, match="import_from"):
        type(face.instance)(face.backend, import_from=import_from)


def test_two_functions_cannot_have_one_name(face: Face) -> None:
    face.job(registered.function, name="mine")

    with pytest.raises(InvalidOptions, match=r"'mine' is taken by .*registered"):
        face.job(unregistered, name="mine")


async def test_a_function_that_is_defined_again_takes_its_own_place(face: Face) -> None:
    def define(value: int) -> Any:
        def work() -> int:
            return value

        return face.job(work)

    first, _ = define(1), define(2)
    await face.later(first)

    assert (await face.run()).result == 2


async def test_a_reloaded_module_registers_its_jobs_again(module: Any) -> None:
    import importlib

    name = module(
        "reloaded_module",
        "from test_registry import instance\n@instance.deferrable\ndef work(): return 1\n",
    )
    loaded: types.ModuleType = importlib.import_module(name)

    again = importlib.reload(loaded)

    assert instance.registry[f"{name}:work"] is again.work


async def test_an_item_that_looks_like_an_attribute_path_reaches_no_attribute(face: Face) -> None:
    job = face.job(lambda: None, name="work")
    await face.later(job)
    item = await face.take()
    assert item is not None

    for name in ("work.__globals__", "work.function", "work:function"):
        await face.broker.queue.push({**item, "method": name})
        assert (await face.run()).status == "errored"
