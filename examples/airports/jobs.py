"""The jobs, on an instance that blocks, as a web application would have it.

Its jobs are deferred from code that cannot await and from asyncio alike; the consumer on asyncio
registers the same functions with its own instance. Results are written so that a second run
changes nothing: by the airport's code.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from airports import place, world
from airports.results import Results
from deferrable import Deferrable, MetadataProducerConsumer, backend

WAIT_SECONDS = 0.5  # how long a consumer waits for an item before it asks whether all is over

factory = backend.from_url(place.URL, wait_time=WAIT_SECONDS)
instance = Deferrable(factory.create_backend_for_group(place.GROUP))
results = Results(place.RESULTS)


class RadarDown(Exception):
    """Worth another attempt."""


@instance.deferrable(error_classes=[RadarDown], max_attempts=3)
def find_hub(code: str) -> None:
    """Write down an airport's nearest hub, and have its country counted again."""
    airport = find_airport(code)
    if world.one_in(25, code, "radar") and results.note(f"radar {code}"):
        raise RadarDown(code)
    results.write_hub(code, airport["country"], world.nearest_hub(airport), producer.get())
    recount.later(airport["country"])


@instance.deferrable(debounce_seconds=3)
async def recount(country: str) -> None:
    """Write down how many airports of a country have a hub by now."""
    await asyncio.to_thread(results.count_country, country)


@instance.deferrable
def call_to_board(code: str) -> None:
    """Call passengers to the gate, which is of use only while it is open."""
    results.note(f"boarding {code}")


def find_airport(code: str) -> world.Airport:
    """An airport of the data, or one that somebody has added since.

    Raises:
        KeyError: it is neither.
    """
    if code == world.NOT_IN_THE_DATA and results.is_noted("amended"):
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
