"""What deferrable does, in seven short scenes, without a server and without waiting.

The queue lives in this process, and the demo moves the clock by itself: a call delayed by an hour
runs at once, and what is printed is the same every time. Against a real broker, take the same jobs,
another backend factory, and no clock.
"""

import logging
from collections import Counter
from typing import Any

from deferrable import Deferrable, Receipt
from deferrable.aio import InMemoryDebounceStore
from deferrable.backend import InMemoryBackendFactory
from deferrable.testing import MovingClock

clock = MovingClock()
instance = Deferrable(
    InMemoryBackendFactory(clock=clock).create_backend_for_group("demo"),
    default_error_classes=[ConnectionError],
    debounce_store=InMemoryDebounceStore(clock=clock),
)


@instance.deferrable
def welcome(name: str) -> str:
    return f"Welcome, {name}!"


@instance.deferrable(delay_seconds=3600)
def remind(name: str) -> str:
    return f"{name}, your hour is over."


@instance.deferrable(debounce_seconds=30)
def index(shelf: str) -> str:
    return f"shelf {shelf} is indexed"


is_answering = False


@instance.deferrable(max_attempts=4)
def fetch(page: str) -> str:
    if not is_answering:
        raise ConnectionError("the server hung up")
    return f"fetched {page}"


@instance.deferrable(ttl_seconds=60)
def offer(seat: str) -> str:
    return f"seat {seat} is free now"


addresses = {"Ada": "ada@example.org"}


@instance.deferrable
def write_to(name: str) -> str:
    return f"sent to {addresses[name]}"


class Tally:
    """Counts events: any object with some `on_EVENT` methods can listen to an instance."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    def on_push(self, item: dict[str, Any]) -> None:
        self.events["pushed"] += 1

    def on_debounce_hit(self, item: dict[str, Any]) -> None:
        self.events["skipped"] += 1

    def on_pop(self, item: dict[str, Any]) -> None:
        self.events["popped"] += 1

    def on_retry(self, item: dict[str, Any]) -> None:
        self.events["retried"] += 1

    def on_expire(self, item: dict[str, Any]) -> None:
        self.events["expired"] += 1

    def on_error(self, item: dict[str, Any]) -> None:
        self.events["failed"] += 1


def main() -> None:
    global is_answering
    # Failures are logged with their traceback. The demo prints them itself.
    logging.getLogger("deferrable").setLevel(logging.CRITICAL)
    tally = Tally()
    instance.register_event_consumer(tally)

    print("Seven scenes with one queue, in this process. The clock is moved, not waited for.")

    scene("RUN NOW", "a consumer pops the item and calls the function: at least once")
    show_later("welcome('Ada')", welcome.later("Ada"))
    run_once()

    scene("DELAYED", "the item is hidden until it is due; consumers find nothing before")
    show_later("remind('Ada')", remind.later("Ada"))
    run_once()
    clock.advance(3600)
    run_once()

    scene("DEBOUNCED", "equal calls within 30 s share a run, and a run follows the last of them")
    show_later("index('B')", index.later("B"))
    run_once()
    clock.advance(10)
    show_later("index('B')", index.later("B"))
    clock.advance(5)
    show_later("index('B')", index.later("B"))
    clock.advance(15)
    run_once()

    scene("RETRIED", "ConnectionError is one of our error classes: run again after a backoff")
    show_later("fetch('/news')", fetch.later("/news"))
    run_once()
    clock.advance(4)
    run_once()
    is_answering = True
    clock.advance(6)
    run_once()

    scene("EXPIRED", "its ttl of 60 s has passed, so it is not run any more")
    show_later("offer('12A')", offer.later("12A"))
    clock.advance(61)
    run_once()

    scene("FAILED", "KeyError is not one of our error classes: the item goes to the error queue")
    show_later("write_to('Grace')", write_to.later("Grace"))
    run_once()

    scene("REQUEUED", "look at the error queue, fix the cause, and run the item again as if new")
    for entry in instance.errors():
        error = f"{entry.error['error_type']}: {entry.error['error_text']}"
        show("errors", short(entry.call.name, entry.call.args), error)
        addresses["Grace"] = "grace@example.org"
        entry.requeue()
    run_once()

    print("\nin all     ", ", ".join(f"{n} {event}" for event, n in tally.events.items()))
    stats = instance.backend.queue.stats()
    print("the queue  ", ", ".join(f"{n} {state}" for state, n in stats.items()))
    instance.close()


scene_time = clock.time()


def scene(title: str, meaning: str) -> None:
    global scene_time
    scene_time = clock.time()
    print(f"\n{title:<12}{meaning}")


def show(verb: str, what: str, outcome: str) -> None:
    print(f"  {clock.time() - scene_time:6.0f} s  {verb:<8}{what:<20}{outcome}")


def show_later(call: str, receipt: Receipt) -> None:
    due = f"{receipt.available_time - scene_time:.0f} s"
    meaning = {"delayed": f" until {due}", "skipped": f": the run at {due} serves this call too"}
    show("later", call, receipt.status + meaning.get(receipt.status, ""))


def run_once() -> None:
    """What a consumer does in a loop. The instance of `deferrable.aio` awaits it."""
    outcome = instance.run_once()
    if outcome is None:
        show("run", "-", "nothing is due")
        return
    job = outcome.item["method"].rpartition(":")[2]
    if outcome.status == "completed":
        show("run", job, f"completed: {outcome.result}")
    elif outcome.error is not None:
        show("run", job, f"{outcome.status}: {type(outcome.error).__name__}: {outcome.error}")
    else:
        show("run", job, outcome.status)


def short(name: str, args: tuple[Any, ...]) -> str:
    return f"{name.rpartition(':')[2]}({', '.join(map(repr, args))})"


if __name__ == "__main__":
    main()
