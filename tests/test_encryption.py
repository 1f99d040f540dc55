"""Arguments and metadata that only those can read who have the key."""

import json
from typing import Any, NoReturn

import pytest
from cryptography.fernet import Fernet
from faces import MakeFace

from deferrable import MetadataProducerConsumer
from deferrable.errors import InvalidOptions, UnreadableItem, UnserializableCall
from deferrable.pickling import pretty_unpickle, unpickle_method_call

pytestmark = pytest.mark.anyio

SERIALIZERS = pytest.mark.parametrize("serializer", ["pickle", "json"])
SECRET = "a card number"


def work(value: str, *, other: list[int]) -> tuple[str, list[int]]:
    return value, other


def fail(value: str) -> NoReturn:
    raise ValueError


class Tracer(MetadataProducerConsumer):
    NAMESPACE = "trace"

    def __init__(self) -> None:
        super().__init__()
        self.consumed: list[Any] = []

    def produce_metadata(self) -> str:
        return SECRET

    def consume_metadata(self, metadata: Any) -> None:
        self.consumed.append(metadata)


@SERIALIZERS
async def test_what_is_encrypted_arrives_and_stands_nowhere_in_the_item(
    make_face: MakeFace, serializer: str
) -> None:
    face = make_face(serializer=serializer, encryption=Fernet(Fernet.generate_key()))
    tracer = Tracer()
    face.instance.register_metadata_producer_consumer(tracer)

    await face.later(face.job(work), SECRET, other=[4, 5])
    outcome = await face.run()

    assert outcome.result == (SECRET, [4, 5])
    assert tracer.consumed == [SECRET]
    assert outcome.item["encrypted"] is True
    assert SECRET not in json.dumps(outcome.item)
    assert SECRET not in pretty_unpickle(outcome.item)
    with pytest.raises(UnreadableItem, match="the item is encrypted"):
        unpickle_method_call(outcome.item)


@pytest.mark.parametrize("reader", [None, Fernet(Fernet.generate_key())])
async def test_who_lacks_the_key_reads_nothing_and_loses_nothing(
    make_face: MakeFace, reader: Fernet | None
) -> None:
    face = make_face(encryption=Fernet(Fernet.generate_key()))
    await face.later(face.job(fail), SECRET)
    item = await face.take()
    assert item is not None
    stranger = make_face(encryption=reader)
    stranger.job(fail, error_classes=[Exception])
    await stranger.broker.queue.push(item)

    outcome = await stranger.run()

    assert isinstance(outcome.error, UnreadableItem)
    assert "encryption=" in str(outcome.error)
    buried = await stranger.take_error()
    assert buried is not None
    assert (buried["args"], buried["kwargs"]) == (item["args"], item["kwargs"])


async def test_an_error_item_is_decrypted_for_show_and_run_again(make_face: MakeFace) -> None:
    face = make_face(encryption=Fernet(Fernet.generate_key()), signing_keys=("k" * 32,))
    await face.later(face.job(fail), SECRET)
    await face.run()

    async for entry in face.each(face.instance.errors()):
        assert entry.call.args == (SECRET,)
        await face.do(entry.requeue)

    assert isinstance((await face.run()).error, ValueError)


async def test_items_from_before_the_switch_are_read(make_face: MakeFace) -> None:
    plain = make_face()
    await plain.later(plain.job(work), "x", other=[])
    item = await plain.take()
    assert item is not None
    face = make_face(encryption=Fernet(Fernet.generate_key()))
    face.job(work)

    await face.broker.queue.push(item)

    assert (await face.run()).result == ("x", [])


@pytest.mark.parametrize("change", [{"args": "AAAA"}, {"args": "!"}, {"args": []}, {"args": ""}])
async def test_what_was_changed_on_its_way_is_unreadable(
    make_face: MakeFace, change: dict[str, Any]
) -> None:
    face = make_face(encryption=Fernet(Fernet.generate_key()))
    await face.later(face.job(work), "x", other=[])
    item = await face.take()
    assert item is not None

    await face.broker.queue.push({**item, **change})

    error = (await face.run()).error
    assert isinstance(error, UnreadableItem)
    assert "the item's args" in str(error)


class Broken:
    def encrypt(self, data: bytes) -> bytes:
        raise OSError("the key server is away")

    def decrypt(self, data: bytes) -> bytes:
        return data


async def test_what_cannot_be_encrypted_is_not_pushed(make_face: MakeFace) -> None:
    face = make_face(encryption=Broken())

    with pytest.raises(UnserializableCall, match="the key server is away"):
        await face.later(face.job(work), "x", other=[])

    assert await face.stats() == (0, 0, 0)


def test_encryption_that_python_2_could_not_read_is_refused(make_face: MakeFace) -> None:
    with pytest.raises(InvalidOptions, match="serializer='classic'"):
        make_face(serializer="classic", encryption=Broken())
