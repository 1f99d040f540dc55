"""The blocking API has every verb of the asyncio API: parameters, results, documentation."""

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from processes import run_program

import deferrable
import deferrable.aio
import deferrable.aio.backend
import deferrable.backend
import deferrable.sync
import deferrable.sync.backend
from deferrable.aio.backend.memory import InMemoryBackendFactory

PAIRS = {
    "Queue": (deferrable.aio.Queue, deferrable.sync.Queue),
    "Backend": (deferrable.aio.Backend, deferrable.sync.Backend),
    "BackendFactory": (deferrable.aio.BackendFactory, deferrable.sync.BackendFactory),
    "Deferrable": (deferrable.aio.Deferrable, deferrable.sync.Deferrable),
    "ErrorItem": (deferrable.aio.ErrorItem, deferrable.sync.ErrorItem),
    "ErrorItems": (deferrable.aio.ErrorItems, deferrable.sync.ErrorItems),
    "Worker": (deferrable.aio.Worker, deferrable.sync.Worker),
    "InMemoryBackendFactory": (
        InMemoryBackendFactory,
        deferrable.backend.InMemoryBackendFactory,
    ),
    "DocketsBackendFactory": (
        deferrable.aio.backend.DocketsBackendFactory,
        deferrable.backend.DocketsBackendFactory,
    ),
    "SQLiteBackendFactory": (
        deferrable.aio.backend.SQLiteBackendFactory,
        deferrable.backend.SQLiteBackendFactory,
    ),
    "SQSBackendFactory": (
        deferrable.aio.backend.SQSBackendFactory,
        deferrable.backend.SQSBackendFactory,
    ),
}
each_pair = pytest.mark.parametrize(("awaiting", "blocking"), PAIRS.values(), ids=PAIRS)

NOT_FOR_USERS = {
    # Between the two doors of one engine.
    (deferrable.aio.Deferrable, "emit_empty"),
    # Of a handle, which has both doors itself.
    (deferrable.aio.Deferrable, "calls"),
    # Of a worker, which has a loop also in the blocking API.
    (deferrable.aio.Queue, "wait_for_items"),
    (deferrable.aio.Queue, "end_pops"),
    # Of the engine, which makes sure of an item once and pushes it later.
    (deferrable.aio.Queue, "prepare"),
    # Of an instance, to which Lambda hands them.
    (deferrable.aio.Queue, "take_event"),
    (deferrable.aio.Worker, "next_outcome"),
    # Of the command line, which awaits; the last one ends its process, too.
    (deferrable.aio.ErrorItems, "next_items"),
    (deferrable.aio.ErrorItems, "peek_items"),
    (deferrable.aio.ErrorItems, "take"),
    (deferrable.aio.ErrorItems, "give_back"),
    (deferrable.aio.Worker, "release_running"),
}


def own(cls: type, kind: Any) -> dict[str, Any]:
    """The public attributes of a class that are of a kind."""
    return {
        name: value
        for name, value in inspect.getmembers_static(cls)
        if isinstance(value, kind) and not name.startswith("_") and (cls, name) not in NOT_FOR_USERS
    }


def methods(cls: type) -> dict[str, Any]:
    return own(cls, type(lambda: None))


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(function)
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


def facade_of(hint: Any) -> Any:
    """What the blocking API returns where the asyncio API returns `hint`."""
    for awaiting, blocking in PAIRS.values():
        if hint == awaiting:
            return blocking
        if hint == awaiting | None:
            return blocking | None
    if get_origin(hint) is AsyncIterator:
        (each,) = get_args(hint)
        return Iterator[facade_of(each)]
    return hint


@each_pair
def test_every_public_method_is_on_both_faces(awaiting: type, blocking: type) -> None:
    missing = methods(awaiting).keys() - methods(blocking).keys()

    assert not missing


@each_pair
def test_every_property_is_on_both_faces(awaiting: type, blocking: type) -> None:
    assert own(awaiting, property).keys() <= own(blocking, property).keys()


@each_pair
def test_blocking_face_has_no_verb_of_its_own(awaiting: type, blocking: type) -> None:
    assert not methods(blocking).keys() - methods(awaiting).keys()


@each_pair
def test_methods_take_the_same_parameters_with_the_same_defaults(
    awaiting: type, blocking: type
) -> None:
    for name, method in methods(awaiting).items():
        assert parameters(methods(blocking)[name]) == parameters(method), name


@each_pair
def test_methods_return_on_one_face_what_they_return_on_the_other(
    awaiting: type, blocking: type
) -> None:
    for name, method in methods(awaiting).items():
        expected = facade_of(get_type_hints(method)["return"])
        assert get_type_hints(methods(blocking)[name])["return"] == expected, name


@each_pair
def test_every_method_and_class_of_both_faces_is_documented(awaiting: type, blocking: type) -> None:
    for cls in (awaiting, blocking):
        assert cls.__doc__
        for name, member in {**methods(cls), **own(cls, property)}.items():
            assert member.__doc__, f"{cls.__qualname__}.{name}"


@each_pair
def test_blocking_methods_are_plain_and_awaiting_ones_of_the_same_name_may_be_awaited(
    awaiting: type, blocking: type
) -> None:
    for method in methods(blocking).values():
        assert not inspect.iscoroutinefunction(method)


@pytest.mark.parametrize(
    "name",
    [
        "Deferrable",
        *(name for name in PAIRS if name.endswith("BackendFactory") and name != "BackendFactory"),
    ],
)
def test_blocking_face_is_made_with_the_same_arguments(name: str) -> None:
    awaiting, blocking = PAIRS[name]

    assert parameters(blocking) == parameters(awaiting)


def test_flags_and_lease_of_a_queue_are_those_of_its_core() -> None:
    backend = InMemoryBackendFactory().create_backend_for_group(None)

    for core in (backend.queue, backend.error_queue):
        queue = deferrable.sync.Queue(core)
        names = [name for name in dir(core) if name.isupper()]
        assert names
        for name in [*names, "lease_seconds", "max_lease_seconds", "clock"]:
            assert getattr(queue, name) == getattr(core, name)


@pytest.mark.parametrize("name", sorted(deferrable.sync.__all__))
def test_bare_package_is_the_blocking_face(name: str) -> None:
    assert getattr(deferrable, name) is getattr(deferrable.sync, name)


# These stores have no verbs for users, and one face.
STORES = {"ForeignMessage", "RedisDebounceStore", "RedisResults", "RedisScheduleStore", "S3Store"}


@pytest.mark.parametrize("name", sorted({*deferrable.backend.__all__} - STORES))
def test_bare_backend_package_is_the_blocking_face(name: str) -> None:
    assert getattr(deferrable.backend, name) is getattr(deferrable.sync.backend, name)


def test_both_faces_have_the_same_names() -> None:
    assert set(deferrable.__all__) == set(deferrable.aio.__all__) == set(deferrable.sync.__all__)


def test_both_backend_packages_have_the_same_names() -> None:
    assert set(deferrable.backend.__all__) == set(deferrable.aio.backend.__all__)


def test_packages_inside_are_had_as_attributes_without_an_import_of_their_own() -> None:
    lines = run_program(
        """
        import deferrable
        print(deferrable.backend.InMemoryBackendFactory.__module__)
        print(deferrable.aio.backend.InMemoryBackendFactory.__module__)
        print(deferrable.testing.MovingClock.__module__)
        """
    )

    assert lines == [
        "deferrable.sync.backend",
        "deferrable.aio.backend.memory._factory",
        "deferrable.testing.clock",
    ]
