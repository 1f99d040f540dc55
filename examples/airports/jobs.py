"""The jobs, on an instance that blocks, as a web application would have it.

Its jobs are deferred from code that cannot await and from asyncio alike; the consumer on asyncio
registers the same functions with its own instance. Results are written so that a second run
changes nothing: by the airport's code.
"""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import redis
import redis.asyncio

from airports import world
from deferrable import Deferrable, MetadataProducerConsumer, backend

REDIS_URL = os.environ.get("AIRPORTS_REDIS_URL", "redis://localhost:6379/0")
GROUP = os.environ.get("AIRPORTS_GROUP", "airports")
WAIT_SECONDS = 0.5  # how long a consumer waits for an item before it asks whether all is over

instance = Deferrable(
    backend.DocketsBackendFactory(REDIS_URL, wait_time=WAIT_SECONDS).create_backend_for_group(
        GROUP
    ),
)


class RadarDown(Exception):
    """Worth another attempt."""


@instance.deferrable(error_classes=[RadarDown], max_attempts=3)
def find_hub(code: str) -> None:
    """Write down an airport's nearest hub, and have its country counted again."""
    airport = find_airport(code)
    if world.one_in(25, code, "radar") and store.hsetnx(key("radar"), code, "down"):
        raise RadarDown(code)
    with store.pipeline() as writing:
        writing.hset(key("hubs"), code, world.nearest_hub(airport))
        writing.hset(key("producers"), code, producer.get())
        writing.sadd(key(f"in {airport['country']}"), code)
        writing.hincrby(key("runs"), code, 1)
        writing.execute()
    recount.later(airport["country"])


@instance.deferrable(debounce_seconds=3)
async def recount(country: str) -> None:
    """Write down how many airports of a country have a hub by now."""
    count = await awaited_store().scard(key(f"in {country}"))
    await awaited_store().hset(key("counts"), country, str(count))
    await awaited_store().hincrby(key("recounts"), country, 1)


@instance.deferrable
def call_to_board(code: str) -> None:
    """Call passengers to the gate, which is of use only while it is open."""
    store.sadd(key("boarding"), code)


def find_airport(code: str) -> world.Airport:
    """An airport of the data, or one that somebody has added since.

    Raises:
        KeyError: it is neither.
    """
    if code == world.NOT_IN_THE_DATA and store.exists(key("amended")):
        return world.FOUND_LATER
    return world.AIRPORTS[code]


# Who deferred a job, told to the job.

producer: ContextVar[str] = ContextVar("producer", default="nobody")


class ProducersName(MetadataProducerConsumer):
    """Has each item say which process deferred it."""

    NAMESPACE = "producer"

    def produce_metadata(self) -> str:
        return producer.get()

    def consume_metadata(self, metadata: str | None) -> None:
        producer.set(metadata or "nobody")


# What happened, counted.


class Tally:
    """Counts the events of a process. Jobs defer jobs from several threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Callable[[object], None]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda item: self.count(name.removeprefix("on_"))

    def on_pop(self, item: dict[str, Any]) -> None:
        self.count("pop")
        if item["original_delay_seconds"] and not item["attempts"]:
            self.count("delayed")
        if time.time() < item.get("due_time", 0):
            self.count("early")

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


tally = Tally()
instance.register_event_consumer(tally)
instance.register_metadata_producer_consumer(ProducersName())


# Where results are written.


def key(name: str) -> str:
    return f"{GROUP}:{name}"


store: Any = redis.Redis.from_url(REDIS_URL, decode_responses=True)
"""For code that blocks, of any thread."""

_awaited_stores: dict[asyncio.AbstractEventLoop, Any] = {}


def awaited_store() -> Any:
    """For async jobs: of the running loop, which is the library's own in a blocking consumer."""
    loop = asyncio.get_running_loop()
    if loop not in _awaited_stores:
        _awaited_stores[loop] = redis.asyncio.Redis.from_url(REDIS_URL, decode_responses=True)
    return _awaited_stores[loop]
