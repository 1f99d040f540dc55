"""The real Dockets 0.4.2, on a real Python 2.7, and ours over one Redis, in both directions.

Skipped by name where there is no Python 2.7, or where Dockets cannot be installed for it.
"""

import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from dockets_place import Place
from processes import DEADLINE_SECONDS
from python2 import find_python2, run_python2
from redis_server import RedisServer

from deferrable.aio import Deferrable
from deferrable.metadata import MetadataProducerConsumer
from deferrable.testing import MovingClock

pytestmark = pytest.mark.anyio


PRELUDE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import redis
from dockets.queue import Queue
client = redis.StrictRedis.from_url(sys.argv[2])
queue = Queue(client, sys.argv[3], use_error_queue=True, wait_time=0, stat_gatherer_cls=None)

def tell(value):
    print(json.dumps(value))
"""

ITEM = {
    "text": "\u00e9 \U0001f600 \u2028",
    "numbers": [0, -1, 2**53, 123456789012345678901234567890, 1.5, 1e300],
    "nothing": [None, True, False, [], {}, ""],
    "nested": {"a": {"b": [{"c": 1}]}},
}


@pytest.fixture(scope="session")
def dockets(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with Dockets 0.4.2 and what it needs, for Python 2.7."""
    python2 = find_python2()
    if python2 is None:
        pytest.skip("there is no Python 2.7: set DEFERRABLE_PYTHON2 to one")
    folder = str(tmp_path_factory.mktemp("dockets"))
    command = [python2, "-m", "pip", "install", "--quiet", "--target", folder, "dockets==0.4.2"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"Dockets 0.4.2 cannot be installed for Python 2.7: {error}")
    if done.returncode:
        pytest.skip(f"Dockets 0.4.2 cannot be installed for Python 2.7: {done.stderr[-500:]}")
    return folder


@pytest.fixture
async def place(redis_server: RedisServer) -> AsyncIterator[Place]:
    place = Place(redis_server)
    place.clock = MovingClock(time.time())
    yield place
    await place.close()


@pytest.fixture
def old(dockets: str, place: Place) -> Callable[..., Any]:
    """Runs a piece of Python 2 with a Dockets queue called `queue`; what it printed."""

    def run(source: str, **values: Any) -> Any:
        name = f"deferrable_{place.group}"
        told = run_python2(
            f"{PRELUDE}\nvalues = json.loads(sys.stdin.read())\n{source}",
            dockets,
            place.server.url,
            name,
            input=json.dumps(values),
        )
        return json.loads(told) if told.strip() else None

    return run


Old = Callable[..., Any]


class TestItems:
    async def test_what_python_2_pushed_is_popped_and_completed(
        self, place: Place, old: Old
    ) -> None:
        old("queue.push(values['item'])", item=ITEM)
        queue = place.queue()

        envelope, item = await queue.pop()

        assert envelope is not None
        assert item == ITEM
        await queue.complete(envelope)
        assert old("tell([queue.queued(), queue.working()])") == [0, 0]

    async def test_what_was_pushed_here_is_popped_and_completed_by_python_2(
        self, place: Place, old: Old
    ) -> None:
        await place.queue().push(ITEM)

        told = old(
            """
queue._heartbeat()
envelope = queue.pop()
before = queue.working()
queue.complete(envelope)
tell([envelope["item"], envelope["attempts"], envelope["ttl"], before, queue.working()])
"""
        )

        assert told == [ITEM, 0, None, 1, 0]

    async def test_order_is_kept_across_generations(self, place: Place, old: Old) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        old("queue.push({'n': 2})")
        await queue.push({"n": 3})

        first = (await queue.pop())[1]
        second = old("tell(queue.pop()['item'])")
        third = (await queue.pop())[1]

        assert [first, second, third] == [{"n": 1}, {"n": 2}, {"n": 3}]

    async def test_python_2_runs_an_item_of_ours_and_settles_it(
        self, place: Place, old: Old
    ) -> None:
        await place.queue().push({"n": 1})

        told = old(
            """
seen = []
queue.process_item = seen.append
queue._heartbeat()
queue.run_once()
tell([seen, queue.queued(), queue.working(), queue.error_queue.length()])
"""
        )

        assert told == [[{"n": 1}], 0, 0, 0]

    async def test_what_python_2_retries_comes_back_with_its_attempts(
        self, place: Place, old: Old
    ) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        old(
            """
def fail(item):
    raise KeyError(item["n"])

queue.process_item = fail
queue._retry_error_classes = [KeyError]
queue.run_once()
"""
        )

        (raw,) = place.listed()
        _, item = await queue.pop()

        assert json.loads(raw)["attempts"] == 1
        assert item == {"n": 1}

    async def test_both_count_the_same(self, place: Place, old: Old) -> None:
        queue = place.queue()
        await queue.push_batch([{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4, "delay": 1000}])
        await queue.pop()
        old("queue.push({'n': 5}, delay=1000)")

        # Not working(), which counts its own list once for each worker.
        queued, delayed = old("tell([queue.queued(), queue.delayed()])")

        stats = await queue.stats()
        assert (stats["available"], stats["delayed"]) == (queued, delayed) == (2, 2)


class TestDelays:
    async def test_a_delayed_item_of_python_2_becomes_due_here(
        self, place: Place, old: Old
    ) -> None:
        old("queue.push(values['item'], delay=100)", item=ITEM)
        queue = place.queue()

        early = await queue.pop()
        place.clock.advance(101)
        _, item = await queue.pop()

        assert early == (None, None)
        assert item == ITEM
        assert old("tell(queue.delayed())") == 0

    async def test_a_delayed_item_of_ours_becomes_due_there(self, place: Place, old: Old) -> None:
        queue = place.queue()
        await queue.push({"n": 1, "delay": 100})
        place.clock = MovingClock(time.time() - 200)
        await place.queue().push({"n": 2, "delay": 100})

        told = old("tell([queue.pop()['item'], queue.pop(), queue.delayed()])")

        assert told == [{"n": 2, "delay": 100}, None, 1]


class TestReclaiming:
    async def test_the_items_of_a_dead_python_2_consumer_come_back_here(
        self, place: Place, old: Old
    ) -> None:
        queue = place.queue()
        old(
            """
for n in range(3):
    queue.push({"n": n})
queue._heartbeat()
queue.pop(), queue.pop()
"""
        )
        place.kill(place.worker())

        popped = await queue.pop_batch(5)

        assert [item["n"] for _, item in popped] == [2, 0, 1]
        attempts = [json.loads(raw)["attempts"] for raw in place.in_flight()]
        assert attempts == [0, 1, 1]

    async def test_a_reclaimed_item_can_be_run_by_python_2(self, place: Place, old: Old) -> None:
        old("queue.push(values['item']); queue._heartbeat(); queue.pop()", item=ITEM)
        place.kill(place.worker())
        queue = place.queue()
        envelope, _ = await queue.pop()
        assert envelope is not None
        await queue.release(envelope)

        told = old(
            """
seen = []
queue.process_item = seen.append
envelope = queue.run_once()
tell([seen, envelope["attempts"], queue.error_queue.length()])
"""
        )

        assert told == [[ITEM], 1, 0]

    async def test_the_items_of_a_dead_consumer_of_ours_come_back_there(
        self, place: Place, old: Old
    ) -> None:
        queue = place.queue()
        await queue.push_batch([{"n": 1}, {"n": 2}])
        await queue.pop_batch(2)
        place.kill(place.worker())

        told = old(
            """
queue._heartbeat()
queue._reclaim()
first, second = queue.pop(), queue.pop()
tell([first["item"], first["attempts"], second["item"], second["attempts"]])
"""
        )

        assert told == [{"n": 1}, 1, {"n": 2}, 1]

    async def test_a_living_python_2_consumer_keeps_what_it_has(
        self, place: Place, old: Old
    ) -> None:
        old("queue.push({'n': 1}); queue._heartbeat(); queue.pop()")
        name = place.worker()

        assert await place.queue().pop() == (None, None)

        assert len(place.in_flight(name)) == 1
        assert name in place.workers()

    async def test_a_python_2_consumer_that_never_registered_keeps_what_it_has(
        self, place: Place, old: Old
    ) -> None:
        name = old("queue.push({'n': 1}); queue.pop(); tell(str(queue.worker_id))")
        queue = place.queue()

        assert await queue.pop() == (None, None)

        assert len(place.in_flight(name)) == 1

    async def test_a_living_consumer_of_ours_keeps_what_it_has(
        self, place: Place, old: Old
    ) -> None:
        queue = place.queue()
        await queue.push({"n": 1})
        envelope, _ = await queue.pop()
        assert envelope is not None

        told = old("queue._reclaim(); tell(queue.pop())")

        assert told is None
        await queue.complete(envelope)


class TestErrors:
    async def test_an_error_of_python_2s_deferrable_is_read_and_completed_here(
        self, place: Place, old: Old
    ) -> None:
        item = {**ITEM, "error": {"id": "e1", "ts": 1.5, "error_type": "KeyError"}}
        old("queue.error_queue.queue_error_item('e1', values['item'])", item=item)
        errors = place.backend().error_queue

        envelope, popped = await errors.pop()

        assert envelope is not None
        assert popped == item
        await errors.complete(envelope)
        assert old("tell(queue.error_queue.length())") == 0

    async def test_an_error_of_ours_is_read_and_deleted_by_python_2(
        self, place: Place, old: Old
    ) -> None:
        item = {**ITEM, "error": {"id": "e1"}}
        await place.backend().error_queue.push(item)

        told = old(
            """
errors = queue.error_queue
(error_id,) = errors.error_ids()
error = errors.error(error_id)
errors.delete_error(error_id)
tell([error_id, error, errors.length()])
"""
        )

        assert told == ["e1", item, 0]

    async def test_an_error_recorded_by_dockets_itself_is_read_here(
        self, place: Place, old: Old
    ) -> None:
        await place.queue().push({"n": 1})
        old(
            """
def fail(item):
    raise KeyError(item["n"])

queue.process_item = fail
queue.run_once()
"""
        )

        _, popped = await place.backend().error_queue.pop()

        assert popped is not None
        assert popped["error_type"] == "KeyError"
        assert popped["envelope"]["item"] == {"n": 1}

    async def test_what_was_unreadable_here_can_be_listed_by_python_2(
        self, place: Place, old: Old
    ) -> None:
        place.put(b"nonsense", b"\xff\xfe", b'{"item": NaN}')
        await place.queue().pop()

        told = old(
            """
errors = queue.error_queue
tell([[error["error"]["id"] for error in errors.errors()], errors.error_ids()])
"""
        )

        assert sorted(told[0]) == sorted(told[1])
        assert len(told[0]) == 3


# One step of an old consumer: it decodes the metadata before anything is caught.
OLD_CONSUMER = """
import cPickle, traceback
def decoded(text):
    return None if text is None else cPickle.loads(text.encode('ascii').decode('string_escape'))

envelope = queue.pop()
item = envelope['item']
decoded(item['error_classes'])
metadata = decoded(item.get('metadata', {}).get('producer'))
try:
    method, args, kwargs = [decoded(item[field]) for field in ('method', 'args', 'kwargs')]
    told = [metadata, repr(method(*args, **dict(kwargs)))]
except Exception as error:
    item['error'] = {'id': 'e1', 'error_type': type(error).__name__}
    queue.error_queue.queue_error_item('e1', item)
    told = [metadata, 'error queue']
queue.complete(envelope)
tell([told, queue.working(), queue.error_queue.length()])
"""


class Tracing(MetadataProducerConsumer):
    NAMESPACE = "producer"

    def produce_metadata(self) -> str:
        return "the web"


async def _push_call(place: Place, serializer: str) -> None:
    instance = Deferrable(place.backend(), serializer=serializer)
    instance.register_metadata_producer_consumer(Tracing())
    # A function that is at the same place in both Pythons.
    await instance.deferrable(json.dumps).later_async("text")


async def _requeued_outcome(place: Place) -> tuple[str, Any]:
    """How the job of the only error ends that we put back into the queue."""
    instance = Deferrable(place.backend())
    instance.deferrable(json.dumps)
    async for entry in instance.errors():
        await entry.requeue()
    outcome = await instance.run_once()
    assert outcome is not None
    return outcome.status, outcome.result


class TestMetadata:
    @pytest.mark.parametrize("serializer", ["pickle", "json"])
    async def test_an_item_that_python_2_cannot_read_ends_in_its_error_queue(
        self, place: Place, old: Old, serializer: str
    ) -> None:
        await _push_call(place, serializer)

        assert old(OLD_CONSUMER) == [[None, "error queue"], 0, 1]
        assert await _requeued_outcome(place) == ("completed", '"text"')

    async def test_python_2_is_given_the_metadata_of_a_classic_item(
        self, place: Place, old: Old
    ) -> None:
        await _push_call(place, "classic")

        assert old(OLD_CONSUMER) == [["the web", "'\"text\"'"], 0, 0]
