"""Run it all, look at the results, and report: ``python -m airports`` in the folder examples.

It needs no server: the queue is a SQLite file, or what DEFERRABLE_URL says. It starts the two
producers and the two consumers as processes, waits until nothing is left, fixes and requeues what
is in the error queue, and compares every result with the same computed here, in one process.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from airports import place, world
from airports.jobs import instance, results
from airports.live import Live

DEADLINE_SECONDS = 120
PRODUCERS = ("produce_blocking", "produce_asyncio")
EVENTS = ("push", "debounce_hit", "pop", "complete", "retry", "expire", "error")
CONSUMERS = ("consume_blocking", "consume_asyncio")


@dataclass
class Report:
    """What happened. Of each pair of numbers the second is what was to be."""

    airports: int
    countries: int = 0
    seconds: float = 0.0
    events: dict[str, Counter[str]] = field(default_factory=dict)
    error_text: str = ""
    requeued: int = 0
    right_hubs: tuple[int, int] = (0, 0)
    right_counts: tuple[int, int] = (0, 0)
    right_producers: tuple[int, int] = (0, 0)
    retried: tuple[int, int] = (0, 0)
    delayed: tuple[int, int] = (0, 0)
    early: tuple[int, int] = (0, 0)
    boarded: tuple[int, int] = (0, 0)
    expired: tuple[int, int] = (0, 0)
    errored: tuple[int, int] = (0, 0)
    duplicates: int = 0
    recount_calls: int = 0
    recounts: int = 0

    @property
    def is_right(self) -> bool:
        return all(
            is_one == to_be
            for is_one, to_be in (
                *(self.right_hubs, self.right_counts, self.right_producers, self.retried),
                *(self.delayed, self.early, self.boarded, self.expired, self.errored),
            )
        )

    def total(self, event: str) -> int:
        return sum(counts[event] for counts in self.events.values())


def run(count: int, live: Live) -> Report:
    """Have `count` airports' hubs found, and look at what came of it."""
    report = Report(count)
    clear()
    start_time = time.monotonic()
    with ExitStack() as running:
        # Consumers come later than some calls may wait: those expire.
        producers = {name: running.enter_context(start(name, count)) for name in PRODUCERS}
        for process in producers.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "boarding\n"
        consumers = {name: running.enter_context(start(name, count)) for name in CONSUMERS}
        wait_until(lambda: all_ended(producers.values()), "the producers have ended", live)
        for name, process in producers.items():
            report.events[name] = finish(process)
        wait_until(has_failed, "the one item that has to fail has failed", live)
        fix(report)
        wait_until(nothing_is_left, "the queue is empty", live)
        results.note("over")
        for name, process in consumers.items():
            report.events[name] = finish(process)
    report.seconds = time.monotonic() - start_time
    live.end()
    compare(report)
    clear()
    return report


def clear() -> None:
    instance.backend.queue.flush()
    instance.backend.error_queue.flush()
    results.clear()


@contextmanager
def start(name: str, count: int) -> "Iterator[subprocess.Popen[str]]":
    """A process of ours, which is killed if it still runs in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", f"airports.{name}", str(count)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def all_ended(processes: "Iterable[subprocess.Popen[str]]") -> bool:
    return all(process.poll() is not None for process in processes)


def finish(process: "subprocess.Popen[str]") -> "Counter[str]":
    """Wait for the end of a process, and take the counts that it printed last."""
    # Not by communicate, which overlooks what readline has read ahead of its line.
    if process.wait(DEADLINE_SECONDS) != 0:
        raise SystemExit(f"{process.args!r} failed")
    assert process.stdout is not None
    return Counter(json.loads(process.stdout.read().splitlines()[-1]))


def wait_until(condition: Callable[[], bool], description: str, live: Live) -> None:
    deadline_time = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline_time:
            raise SystemExit(f"gave up after {DEADLINE_SECONDS} s of waiting until {description}")
        live.show()
        time.sleep(0.05)


def has_failed() -> bool:
    return instance.backend.error_queue.stats()["available"] > 0


def nothing_is_left() -> bool:
    # Twice: what moves from one place to another may be missed by a count.
    return all(sum(instance.backend.queue.stats().values()) == 0 for _ in range(2))


def fix(report: Report) -> None:
    """Look at what failed, add the airport that was missing, and run the item again."""
    for entry in instance.errors():
        report.error_text = f"{entry.error['error_type']}: {entry.error['error_text']}"
        if entry.call.args != (world.NOT_IN_THE_DATA,):
            raise SystemExit(f"failed, and was not to: {entry.call}\n{entry.error['traceback']}")
        results.note("amended")
        entry.requeue()
        report.requeued += 1


def compare(report: Report) -> None:
    """Compute the same in this process, and compare."""
    codes = [*world.choose(report.airports), world.NOT_IN_THE_DATA]
    found = {code: world.AIRPORTS.get(code, world.FOUND_LATER) for code in codes}
    hubs = {code: world.nearest_hub(airport) for code, airport in found.items()}
    counts = Counter(airport["country"] for airport in found.values())
    names = {code: ("blocking", "asyncio")[index % 2] for index, code in enumerate(codes)}
    airports, countries = results.airports(), results.countries()
    runs = [each_runs for _, _, each_runs in airports.values()]
    report.countries = len(counts)
    report.right_hubs = right(hubs, {code: hub for code, (hub, _, _) in airports.items()})
    report.right_counts = right(counts, {code: count for code, (count, _) in countries.items()})
    report.right_producers = right(names, {code: name for code, (_, name, _) in airports.items()})
    report.retried = (report.total("retry"), sum(world.one_in(25, code, "radar") for code in codes))
    late = sum(world.one_in(10, code, "late") for code in codes[:-1])
    report.delayed = (report.total("delayed"), late)
    report.early = (report.total("early"), 0)
    report.boarded = (results.count_notes("boarding "), 100)
    report.expired = (report.total("expire"), 100)
    report.errored = (report.total("error"), 1)
    report.duplicates = sum(runs) - len(runs)
    report.recount_calls = report.total("debounce_hit") + report.total("debounce_miss")
    report.recounts = sum(recounts for _, recounts in countries.values())


def right(expected: Mapping[str, object], written: Mapping[str, object]) -> tuple[int, int]:
    """How many of the results are as expected, and how many there should be."""
    return sum(written.get(code) == value for code, value in expected.items()), len(expected)


def show(report: Report) -> None:
    print(f"{report.airports:,} real airports of {report.countries} countries,", end=" ")
    print(f"two producers, two consumers, one {queue_title()}: {report.seconds:.1f} s\n")
    print(f"{'':<17}" + "".join(f"{event:>13}" for event in EVENTS))
    for name, counts in report.events.items():
        print(f"{name:<17}" + "".join(f"{counts[event]:>13,}" for event in EVENTS))
    print(f"{'all':<17}" + "".join(f"{report.total(event):>13,}" for event in EVENTS))
    print()
    tell("right hubs", report.right_hubs, "found through the queue as one process computes them")
    tell("right counts", report.right_counts, "of countries, counted after their last airport")
    tell("metadata", report.right_producers, "jobs knew which process had deferred them")
    tell("retried", report.retried, "the radar was down at the first attempt")
    tell("delayed", report.delayed, "calls for two seconds later")
    tell("ran early", report.early, "of all that waited: delayed, retried or debounced")
    tell("boarded", report.boarded, "calls that were good for an hour")
    tell(
        "expired",
        report.expired,
        "calls that were good for 0.05 s, made before the consumers began",
    )
    tell("failed", report.errored, f"{report.error_text}: seen in the error queue, and fixed")
    tell("requeued", (report.requeued, 1), "the same item, which then completed")
    tell(
        "debounced",
        (report.recounts, report.recount_calls),
        "calls to recount a country had to run",
    )
    tell("run twice", (report.duplicates, report.total("complete")), "at least once may mean more")


def queue_title() -> str:
    scheme = place.URL.partition(":")[0]
    return {"sqlite": "SQLite file", "sqs": "queue in SQS"}.get(scheme, "Redis")


def tell(name: str, numbers: tuple[int, int], meaning: str) -> None:
    print(f"{name:<17}{numbers[0]:>7,} of {numbers[1]:>6,}  {meaning}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m airports", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=10_000, help="how many airports")
    parser.add_argument("--json", action="store_true", help="print the numbers for programs")
    arguments = parser.parse_args()
    goal = arguments.count + 1
    report = run(arguments.count, Live(goal, None if arguments.json else sys.stdout))
    if arguments.json:
        print(json.dumps({**vars(report), "is_right": report.is_right}))
    else:
        show(report)
    return 0 if report.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
