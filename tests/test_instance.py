"""The instance itself: what its constructor refuses, and what may be changed later."""

import copy
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

import deferrable.aio
import deferrable.aio.backend
import deferrable.backend
from deferrable import Deferrable
from deferrable.aio import InMemoryDebounceStore
from deferrable.testing import MovingClock


def note(number: int) -> int:
    return number


def test_an_instance_that_awaits_refuses_a_backend_that_blocks_and_says_which_to_use() -> None:
    blocking = deferrable.backend.InMemoryBackendFactory().create_backend_for_group(None)

    with pytest.raises(TypeError, match=r"deferrable\.aio\.backend"):
        deferrable.aio.Deferrable(blocking)  # type: ignore[arg-type]


def test_a_backend_set_later_brings_its_clock_along() -> None:
    instance = Deferrable(
        deferrable.backend.InMemoryBackendFactory().create_backend_for_group(None)
    )
    job = instance.deferrable(delay_seconds=60)(note)
    clock = MovingClock()

    instance.backend = deferrable.backend.InMemoryBackendFactory(
        clock=clock
    ).create_backend_for_group(None)
    receipt = job.later(1)
    before = instance.run_once()
    clock.advance(60)
    outcome = instance.run_once()

    assert receipt.available_time == clock.time()
    assert before is None
    assert outcome is not None
    assert outcome.status == "completed"


def test_the_debounce_store_can_be_set_later() -> None:
    clock = MovingClock()
    instance = Deferrable(
        deferrable.backend.InMemoryBackendFactory(clock=clock).create_backend_for_group(None),
        debounce_store=InMemoryDebounceStore(clock=MovingClock()),
    )
    job = instance.deferrable(debounce_seconds=60)(note)

    first = job.later(1)
    instance.debounce_store = InMemoryDebounceStore(clock=clock)
    second = job.later(1)

    assert (first.status, second.status) == ("pushed", "pushed")


@pytest.mark.parametrize(("group", "told"), [("mails", "group 'mails'"), (None, "no group")])
@pytest.mark.parametrize("package", [deferrable.aio, deferrable])
def test_reprs_show_group_backend_and_job(package: Any, group: str | None, told: str) -> None:
    queue = f"<InMemoryQueue deferrable{'_mails' if group else ''}>"
    backend = package.backend.InMemoryBackendFactory().create_backend_for_group(group)
    instance = package.Deferrable(backend)
    job = instance.deferrable(name="send")(note)

    assert f"<Deferrable, {told}: {queue}, 1 job>" in repr(instance)
    assert f"<Backend, {told}: {queue}, " in repr(backend)
    assert repr(job) == f"<Job send, {told}: {queue}>"


FACTORIES = {
    "in memory": lambda door: door.InMemoryBackendFactory(),
    "sqlite": lambda door: door.SQLiteBackendFactory("never-opened.db"),
    "redis": lambda door: door.DocketsBackendFactory("redis://:password@localhost:1"),
    "sqs": lambda door: door.SQSBackendFactory(region_name="eu-west-1"),
}


@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
@pytest.mark.parametrize("api", [deferrable, deferrable.aio], ids=["blocking", "asyncio"])
def test_what_belongs_to_one_process_is_not_pickled_and_says_what_to_do(
    api: Any, make: Callable[[Any], Any]
) -> None:
    factory = make(api.backend)
    backend = factory.create_backend_for_group(None)
    instance = api.Deferrable(backend)

    for each in (factory, backend, backend.queue, backend.error_queue, instance):
        for pickled in (ForkingPickler.dumps, copy.deepcopy):  # as a spawned process gets it
            with pytest.raises(TypeError, match="import the module that makes it") as raised:
                pickled(each)
            assert "of this process" in str(raised.value)
            assert "password" not in str(raised.value)


@pytest.mark.parametrize("api", [deferrable, deferrable.aio], ids=["blocking", "asyncio"])
def test_a_shallow_copy_of_an_instance_has_the_same_backend_and_jobs(api: Any) -> None:
    instance = api.Deferrable(api.backend.InMemoryBackendFactory().create_backend_for_group(None))
    instance.deferrable(name="note")(note)

    copied = copy.copy(instance)

    assert copied is not instance
    assert copied.backend.queue is instance.backend.queue
    assert repr(copied) == repr(instance)
