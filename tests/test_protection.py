"""What an instance refuses to read, and that nothing in it is decoded or acted upon before."""

import asyncio
import copy
import logging
import os
import traceback
from pathlib import Path
from typing import Any, NoReturn

import pytest
from commands import run_command
from dockets_place import Place
from faces import LEASE_SECONDS, Face, MakeFace
from hypothesis import given
from hypothesis import strategies as st
from redis_server import RedisServer, unique_group

from deferrable import MetadataProducerConsumer
from deferrable._codec.json import dump, load_item
from deferrable._codec.serializers import get_serializer
from deferrable._protection import Protection, is_signed, sign
from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory, InMemoryBackendFactory
from deferrable.cli.logs import log_outcome
from deferrable.errors import InvalidOptions, SerializationError, UnreadableItem
from deferrable.item import Item
from deferrable.pickling import dumps

pytestmark = pytest.mark.anyio

NEW, OLD, STRANGE = b"a new key of bytes", "an old key of text", b"a stranger's own key"
SIGNED = {"signing_keys": (NEW, OLD)}
JSON_ONLY = {"accept": ("json",), "serializer": "json"}


def beside(face: Face, **options: Any) -> Face:
    """Another instance on the same queues."""
    other = copy.copy(face)
    other.instance = type(face.instance)(face.backend, **options)
    other.events = []
    return other


def work(value: Any = None) -> Any:
    return value


def fail(value: Any = None) -> NoReturn:
    raise ValueError(value)


class Trap:
    """Unpickling it creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "sprung")


def armed_item(name: str, trap: Trap | None, **fields: Any) -> Item:
    """An item in which everything that can be unpickled springs the trap."""
    serializer = get_serializer(name)
    job = "test_protection:work" if name == "classic" else "work"
    armed: Item = {
        "id": "x",
        **serializer.dump_call(job, (trap,), {"value": trap}),
        **serializer.dump_error_classes([ValueError]),
        "metadata": {"trace": serializer.dump_value(trap)},
        "attempts": 0,
        "max_attempts": 5,
        "group": None,
    }
    if name == "classic":
        armed["error_classes"] = dumps((trap,))
    return {**armed, **fields}


class Tracer(MetadataProducerConsumer):
    NAMESPACE = "trace"


# --- A pickle that nobody vouches for -----------------------------------------------------------

REFUSALS = [
    pytest.param(SIGNED, {}, id="unsigned"),
    pytest.param(SIGNED, {"signature": "0" * 64}, id="wrongly signed"),
    pytest.param(SIGNED, {"signature": 5}, id="signed with a number"),
    pytest.param(SIGNED, {"signature": "é"}, id="signed beyond ASCII"),
    pytest.param(JSON_ONLY, {}, id="not accepted"),
]
PICKLES = pytest.mark.parametrize("name", ["pickle", "classic"])


@PICKLES
@pytest.mark.parametrize(("options", "fields"), REFUSALS)
async def test_what_is_refused_is_never_unpickled(
    make_face: MakeFace, options: Any, fields: Any, name: str, trap: Trap
) -> None:
    face = make_face(**options)
    face.job(work, error_classes=[Exception])
    face.instance.register_metadata_producer_consumer(Tracer())
    item = armed_item(name, trap, **fields)
    await face.broker.queue.push(item)

    outcome = await face.run()
    async for entry in face.each(face.instance.errors()):
        with pytest.raises(UnreadableItem):
            entry.call  # noqa: B018
        with pytest.raises(UnreadableItem):
            await face.do(entry.requeue)

    assert outcome.status == "errored"
    assert isinstance(outcome.error, UnreadableItem)
    buried = await face.take_error()
    assert buried is not None
    assert buried.pop("error")["error_type"] == "UnreadableItem"
    assert buried == item
    assert not trap.path.exists()


@PICKLES
async def test_the_trap_springs_where_anybody_is_trusted(face: Face, name: str, trap: Trap) -> None:
    face.instance.deferrable(work)
    face.job(work)
    await face.broker.queue.push(armed_item(name, trap))

    await face.run()

    assert trap.path.exists()


@PICKLES
async def test_a_worker_never_unpickles_what_it_refuses(
    make_face: MakeFace, name: str, trap: Trap
) -> None:
    face = make_face(**SIGNED, wait_seconds=1)
    face.job(work)
    await face.broker.queue.push(armed_item(name, trap))

    async with Deferrable(face.backend, **SIGNED).worker() as worker:
        async for outcome in worker:
            assert outcome.status == "errored"
            break

    assert not trap.path.exists()


def write_careful_app(folder: Path, redis_url: str, group: str) -> None:
    (folder / "careful.py").write_text(
        "from deferrable import Deferrable\n"
        "from deferrable.backend import DocketsBackendFactory\n"
        f"factory = DocketsBackendFactory({redis_url!r}, wait_time=0)\n"
        f"backend = factory.create_backend_for_group({group!r})\n"
        "instance = Deferrable(backend, accept=('json',))\n"
    )


async def fill_errors(redis_url: str, group: str, *items: Item) -> None:
    factory = DocketsBackendFactory(redis_url, wait_time=0)
    async with factory.create_backend_for_group(group) as backend:
        for item in items:
            await backend.error_queue.push(item)


def test_the_command_line_never_unpickles_what_its_instance_refuses(
    redis_url: str, trap: Trap, tmp_path: Path
) -> None:
    group = unique_group()
    write_careful_app(tmp_path, redis_url, group)
    error = {"error_type": "E", "error_text": "", "ts": 0}
    items = [
        armed_item(name, trap, id=f"i{name}", error={**error, "id": name})
        for name in ("pickle", "classic")
    ]

    asyncio.run(fill_errors(redis_url, group, *items))
    for command in (["list"], ["show"], ["show", "--json"], ["requeue"]):
        which = [] if command == ["list"] else ["--all"]
        done = run_command(
            "errors", *command[:1], "careful:instance", *which, *command[1:],
            variables={}, folder=tmp_path,
        )  # fmt: skip

        assert "Traceback" not in done.stderr
        assert done.returncode == (1 if command == ["requeue"] else 0)
    assert not trap.path.exists()


def test_what_an_item_says_moves_no_terminal(redis_url: str, tmp_path: Path) -> None:
    hostile = "\x1b[2J\x9b31m\rfake\x07 [/] [bold]"
    error = {
        "id": "e", "error_type": hostile, "error_text": hostile, "traceback": hostile,
        "hostname": hostile, "ts": 1e300,
    }  # fmt: skip
    item = armed_item("json", None, args=[hostile], kwargs={}, error=error)
    group = unique_group()
    write_careful_app(tmp_path, redis_url, group)
    asyncio.run(
        fill_errors(
            redis_url,
            group,
            {**item, "id": hostile, "serializer": "pickle", "max_attempts": hostile},
            {**item, "id": "2", "method": hostile, "kwargs": [], "error": {**error, "id": "2"}},
            {**item, "id": "3", "object": 1, "method": hostile, "error": {**error, "id": "3"}},
        )
    )

    for command in (["list"], ["show", "--all"], ["requeue", "--all"]):
        done = run_command(
            "errors", command[0], "careful:instance", *command[1:], variables={}, folder=tmp_path
        )

        assert "Traceback (most recent" not in done.stderr
        assert not {*done.stdout, *done.stderr} & {"\x1b", "\x9b", "\r", "\x07"}
        assert "fake" in done.stdout + done.stderr


async def test_what_an_item_says_makes_no_line_of_its_own_in_a_log(
    make_face: MakeFace, caplog: pytest.LogCaptureFixture
) -> None:
    face = make_face(**SIGNED)
    caplog.set_level(logging.INFO)
    hostile = "x\nWARNING a line of its own"
    await face.broker.queue.push({"id": hostile, "method": hostile, "serializer": "json"})

    outcome = await face.run()
    log_outcome(outcome)

    assert "failed for good" in caplog.text
    lines = [*caplog.text.splitlines(), *repr(outcome).splitlines()]
    assert not [line for line in lines if line.startswith("WARNING a line")]


# --- Nothing that it says counts ----------------------------------------------------------------


async def test_a_refused_item_is_not_sent_on_however_late_it_is_due(make_face: MakeFace) -> None:
    face = make_face(**SIGNED)
    face.record_events()
    item = {"id": "x", "due_time": face.clock.time() + 1e9, "method": "work"}
    await face.broker.queue.push(item)

    outcome = await face.run()

    assert outcome.status == "errored"
    assert face.event_names == ["pop", "error", "complete"]


async def test_a_refused_item_is_not_retried_whatever_it_asks_for(make_face: MakeFace) -> None:
    face = beside(make_face(), **SIGNED)
    strange = beside(face, signing_keys=(STRANGE,))
    face.job(work)
    await face.later(strange.job(work, error_classes=[Exception], max_attempts=100))

    assert (await face.run()).status == "errored"
    assert await face.stats() == (0, 0, 0)


async def test_a_refused_item_does_not_expire(make_face: MakeFace) -> None:
    face = make_face(**SIGNED)
    await face.broker.queue.push({"id": "x", "ttl_seconds": 1, "item_queued_timestamp": 0})

    assert (await face.run()).status == "errored"
    assert await face.take_error() is not None


async def test_a_refused_item_reaches_no_metadata_consumer(make_face: MakeFace) -> None:
    class Consumer(MetadataProducerConsumer):
        NAMESPACE = "trace"

        def consume_metadata(self, metadata: Any) -> NoReturn:
            raise AssertionError(metadata)

    face = make_face(**SIGNED)
    face.instance.register_metadata_producer_consumer(Consumer())
    await face.broker.queue.push({"id": "x", "metadata": {"trace": "anything"}})

    assert isinstance((await face.run()).error, UnreadableItem)


async def test_a_refused_item_with_a_delay_goes_to_an_error_queue_that_knows_none(
    make_face: MakeFace,
) -> None:
    face = make_face(**SIGNED)
    face.backend.error_queue.SUPPORTS_DELAY = False  # type: ignore[misc]
    call = {"id": "x", "method": "job", "args": "", "kwargs": ""}
    await face.broker.queue.push({**call, "delay": 5})
    face.clock.advance(5)

    assert (await face.run()).status == "errored"
    assert (await face.take_error() or {})["delay"] == 5


# --- Signing ------------------------------------------------------------------------------------


async def test_a_signed_call_is_run(make_face: MakeFace) -> None:
    face = make_face(**SIGNED)
    job = face.job(work)

    await face.later(job, 7)
    (first, second) = await face.later_many(job, [(8,), (9,)])

    assert [(await face.run()).result for _ in range(3)] == [7, 8, 9]
    assert first.id != second.id


async def test_keys_are_rotated_without_losing_an_item(make_face: MakeFace) -> None:
    old = make_face(signing_keys=(OLD,))
    both = beside(old, signing_keys=(NEW, OLD))
    new = beside(old, signing_keys=(NEW,))
    jobs = [each.job(work) for each in (old, both, new)]

    await old.later(jobs[0], "old")
    assert (await both.run()).result == "old"
    await both.later(jobs[1], "both")
    assert (await new.run()).result == "both"
    await new.later(jobs[2], "new")
    assert (await old.run()).status == "errored"


async def test_a_second_push_signs_with_the_first_key(make_face: MakeFace) -> None:
    old = make_face(signing_keys=(OLD,))
    both = beside(old, signing_keys=(NEW, OLD))
    new = beside(old, signing_keys=(NEW,))
    options = {"error_classes": [ValueError], "max_attempts": 2}
    job = old.job(fail, **options)
    both.job(fail, **options)
    new.job(fail, **options)

    await old.later(job, 1)
    assert (await both.run()).status == "retried"
    old.clock.advance(1000)
    assert (await new.run()).status == "errored"
    async for entry in new.each(new.instance.errors()):
        assert entry.call.args == (1,)
        await new.do(entry.requeue)

    assert (await new.run()).status == "retried"


async def test_an_item_sent_on_is_signed_for_its_new_moment(make_face: MakeFace) -> None:
    face = make_face(**SIGNED)
    job = face.job(work)
    face.backend.queue.MAX_DELAY_SECONDS = 10  # type: ignore[misc]

    await face.later(job.options(delay_seconds=15), 1)
    face.clock.advance(10)
    assert (await face.run()).status == "hopped"
    face.clock.advance(5)

    assert (await face.run()).result == 1


async def test_an_item_that_kills_its_consumers_can_be_requeued(make_face: MakeFace) -> None:
    face = make_face(**SIGNED, max_redeliveries=0)
    await face.later(face.job(work), 5)
    await face.broker.queue.pop()
    face.clock.advance(LEASE_SECONDS + 1)

    async for entry in face.each(face.instance.errors()):
        assert entry.error["error_type"] == "TooManyDeliveries"
        await face.do(entry.requeue)

    assert (await face.run()).result == 5


async def test_an_item_that_redis_has_given_up_can_be_requeued(redis_server: RedisServer) -> None:
    place = Place(redis_server)
    first, second = (
        Deferrable(place.backend(wait_time=0, max_redeliveries=0), signing_keys=(NEW,))
        for _ in range(2)
    )
    for instance in (first, second):
        instance.deferrable(name="work")(work)
    await first.registry["work"].later_async(5)  # type: ignore[attr-defined]
    await first.backend.queue.pop()
    place.kill(place.worker())

    assert await second.run_once() is None
    async for entry in second.errors():
        assert entry.error["error_type"] == "TooManyDeliveries"
        await entry.requeue()
    outcome = await second.run_once()

    assert outcome is not None
    assert outcome.result == 5
    await place.close()


async def test_an_item_of_a_key_that_is_gone_is_read_once_the_key_is_back(
    make_face: MakeFace,
) -> None:
    old = make_face(signing_keys=(OLD,))
    new = beside(old, signing_keys=(NEW,))
    both = beside(old, signing_keys=(NEW, OLD))
    options = {"error_classes": [ValueError], "max_attempts": 2}
    for face in (new, both):
        face.job(fail, **options)
    await old.later(old.job(fail, **options), 3)
    await old.run()
    old.clock.advance(1000)

    assert (await new.run()).status == "errored"
    async for entry in new.each(new.instance.errors()):
        with pytest.raises(UnreadableItem, match="add the key and requeue"):
            await new.do(entry.requeue)
    async for entry in both.each(both.instance.errors()):
        await both.do(entry.requeue)

    assert (await both.run()).status == "retried"


async def test_an_item_of_another_group_is_refused() -> None:
    factory = InMemoryBackendFactory()
    one, other = (
        Deferrable(factory.create_backend_for_group(group), signing_keys=(NEW,))
        for group in ("one", None)
    )
    for instance in (one, other):
        instance.deferrable(name="work")(work)
    await one.registry["work"].later_async(1)  # type: ignore[attr-defined]
    _, item = await one.backend.queue.pop()
    assert item is not None

    for stolen in (item, {**item, "group": None}):
        await other.backend.queue.push(stolen)
        outcome = await other.run_once()
        assert outcome is not None
        assert isinstance(outcome.error, UnreadableItem)


async def test_replay_into_its_own_queue_is_not_prevented(make_face: MakeFace) -> None:
    face = make_face(**SIGNED)
    await face.later(face.job(work), 1)
    item = (await face.run()).item

    await face.broker.queue.push(item)

    assert (await face.run()).result == 1


async def test_a_debounced_call_is_signed_too(redis_url: str) -> None:
    factory = DocketsBackendFactory(redis_url, wait_time=0)
    async with factory.create_backend_for_group(unique_group()) as backend:
        instance = Deferrable(backend, redis_url, signing_keys=(NEW,))
        job = instance.deferrable(name="work", debounce_seconds=60)(work)

        statuses = [(await job.later_async(5)).status for _ in range(3)]
        outcome = await instance.run_once()

        assert statuses == ["pushed", "delayed", "skipped"]
        assert outcome is not None
        assert outcome.result == 5
        await backend.queue.flush()
        await instance.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ITEMS = st.dictionaries(st.text(), VALUES, max_size=5).map(
    lambda extra: {"method": "m:f", "args": "x", "attempts": 1, "max_attempts": 5, **extra}
)


def is_same_json(one: Any, other: Any) -> bool:
    """JSON tells 1, 1.0 and true apart, where Python's equality does not."""
    return repr(sorted_deep(one)) == repr(sorted_deep(other))


def sorted_deep(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, sorted_deep(member)) for key, member in value.items())
    return [sorted_deep(member) for member in value] if isinstance(value, list) else value


@given(st.data(), ITEMS)
def test_any_change_of_a_signed_field_is_refused(data: st.DataObject, item: Item) -> None:
    item = {key: value for key, value in item.items() if key not in ("signature", "error")}
    try:
        signed = {**item, "signature": sign(item, "deferrable", NEW)}
    except ValueError:  # infinity
        return
    assert is_signed({**signed, "error": {"id": 1}}, "deferrable", (NEW,))
    assert is_signed(load_item(dump(signed)), "deferrable", (NEW,))

    field = data.draw(st.sampled_from(sorted(item)) | st.text())
    value = data.draw(VALUES | st.just(...))
    changed = {**signed, field: value}
    if value is ...:
        changed = {key: kept for key, kept in signed.items() if key != field}
    without = {key: kept for key, kept in changed.items() if key not in ("signature", "error")}
    if is_same_json(without, item) and changed.get("signature") == signed["signature"]:
        return

    try:
        assert not is_signed(changed, "deferrable", (NEW,))
    except ValueError:
        return  # Infinity: the caller makes it unreadable.


def test_the_order_of_fields_makes_no_difference() -> None:
    item = {"a": 1, "b": {"c": 2, "d": 3}}
    turned = {"b": {"d": 3, "c": 2}, "a": 1}

    assert sign(item, "q", NEW) == sign(turned, "q", NEW)


@pytest.mark.parametrize("value", [float("inf"), {"a": {1, 2}}])
def test_what_is_no_json_is_neither_signed_nor_verified(value: Any) -> None:
    protection = Protection("pickle", signing_keys=(NEW,))

    with pytest.raises(SerializationError, match="cannot be signed"):
        protection.signed({"value": value}, None)
    with pytest.raises(UnreadableItem, match="cannot be checked"):
        protection.check({"value": value, "signature": "0" * 64}, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signing_keys": NEW}, r"a sequence of keys, got one bytes; write \(key,\)"),
        ({"signing_keys": OLD}, "got one str"),
        ({"signing_keys": (NEW, b"secret")}, "signing key 2 has 6 bytes, which can be guessed"),
        ({"signing_keys": (12345678901234567890,)}, "signing key 1 is of type int"),
        ({"accept": "json"}, r"write \('json',\)"),
        ({"accept": ("json", "yaml")}, "a serializer that cannot be read: serializer is 'yaml'"),
    ],
)
def test_options_that_protect_nothing_are_refused(
    make_face: MakeFace, options: Any, message: str
) -> None:
    with pytest.raises(InvalidOptions, match=message) as caught:
        make_face(**options)

    assert "secret" not in str(caught.value).replace("secrets.", "")


async def test_no_key_shows_in_logs_errors_or_texts(
    make_face: MakeFace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    face = make_face(signing_keys=(STRANGE,))
    await face.broker.queue.push({"id": "x"})
    error = (await face.run()).error
    assert error is not None

    shown = [
        caplog.text,
        "".join(traceback.format_exception(error)),
        *map(repr, (face.instance, error, face.instance.errors(), face.backend)),
        repr(await face.take_error()),
    ]
    assert not [text for text in shown if "stranger" in text]


# --- Accepting ----------------------------------------------------------------------------------


async def test_an_accepted_serializer_is_read(make_face: MakeFace) -> None:
    face = make_face(**JSON_ONLY)

    await face.later(face.job(work), [1])

    assert (await face.run()).result == [1]


async def test_a_refusal_says_what_is_accepted(make_face: MakeFace) -> None:
    face = beside(make_face(), **JSON_ONLY)
    pickling = beside(face)
    face.job(work)
    await face.later(pickling.job(work), 1)

    error = (await face.run()).error

    assert "written by serializer 'pickle', and this consumer accepts only 'json'" in str(error)
