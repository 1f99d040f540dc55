"""``deferrable migrate``. Owns what it says about a fleet of both generations on one Redis.

The rules: items are looked at and never decoded, so no pickle is loaded. Consumers of the Python 2
library are in no set, so only their items and heartbeats show them; the answer says what cannot be
known. Items are taken back by `Queue.take_back` alone, never from a consumer that may be alive.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from deferrable._durations import is_number
from deferrable.aio._contract.inspecting import each_found
from deferrable.aio.deferrable import Deferrable
from deferrable.aio.queue import Found, Queue
from deferrable.cli.asking import check_terminal
from deferrable.cli.command_error import ERROR, USAGE, CommandError, debug_option
from deferrable.cli.loading import with_instance
from deferrable.cli.naming import NamingGroup, instance_argument
from deferrable.cli.printing import (
    age_text,
    json_option,
    print_json,
    seconds_text,
    table,
    to_output,
    untrusted,
)
from deferrable.errors import InvalidOptions
from deferrable.item import Item

__all__ = ["migrate", "writer_of"]

_RECENT_SECONDS = 3600.0
"""A Python 2 producer that pushed within this time counts as alive."""

_PLACES = ("queued", "delayed", "in flight", "errors")
PYTHON2, CLASSIC, NEW, UNREADABLE = "Python 2", "classic", "new", "unreadable"
_WRITERS = (PYTHON2, CLASSIC, NEW, UNREADABLE)


def writer_of(item: Item) -> str:
    """Who wrote an item, by its fields: only the Python 2 library gives items no id."""
    if "raw" in item and "method" not in item:
        return UNREADABLE
    if item.get("serializer") is not None:
        return NEW
    return CLASSIC if isinstance(item.get("id"), str) else PYTHON2


@dataclass(slots=True)
class OldConsumer:
    """A consumer of the Python 2 library.

    Attributes:
        heartbeat_seconds: for how long its heartbeat still lasts; 0: it has none.
        held: what tells its items apart.
        oldest_time: when the oldest of them was pushed, in epoch seconds.
    """

    id: str
    items: int
    heartbeat_seconds: float = 0.0
    held: set[str] = field(default_factory=set)
    oldest_time: float | None = None

    @property
    def state(self) -> str:
        """What is known of its life."""
        return "alive" if self.heartbeat_seconds > 0 else "no heartbeat"


@dataclass(slots=True)
class Findings:
    """What a look has found.

    Attributes:
        counts: how many items there are, by their place and writer.
        newest: when the newest item of each writer was pushed.
        is_whole: every item was looked at.
    """

    counts: dict[str, "Counter[str]"] = field(
        default_factory=lambda: {place: Counter() for place in _PLACES}
    )
    newest: dict[str, float] = field(default_factory=dict)
    consumers: list[OldConsumer] = field(default_factory=list)
    looked_at: int = 0
    is_whole: bool = True

    def reasons(self, now: float) -> list[str]:
        """Why ``serializer="classic"`` must stay; empty: it may go."""
        reasons = []
        alive = [each for each in self.consumers if each.heartbeat_seconds > 0]
        silent = len(self.consumers) - len(alive)
        if alive:
            reasons.append(f"{len(alive)} Python 2 consumers are alive and read classic items only")
        if silent:
            reasons.append(
                f"{silent} Python 2 consumers hold items and have no heartbeat; stop them for "
                "good, then run: deferrable migrate adopt"
            )
        newest = self.newest.get(PYTHON2)
        if newest is not None and now - newest < _RECENT_SECONDS:
            reasons.append(
                f"a Python 2 producer pushed an item {age_text(newest)} ago, so its deployment "
                "may have consumers, too"
            )
        if not self.is_whole:
            reasons.append(
                f"only {self.looked_at:,} items were looked at; see all of them with --sample 0"
            )
        return reasons


async def look(queue: Queue, errors: Queue, most: int) -> Findings:
    """Look at up to `most` items of each queue (0: at all), and at the old consumers."""
    findings = Findings()
    consumers = await _old_consumers(queue)
    for source, is_error in ((queue, False), (errors, True)):
        looked_at = 0
        async for found in each_found(source):
            if most and looked_at >= most:
                findings.is_whole = False
                break
            looked_at += 1
            _note(findings, found, is_error=is_error)
            if not is_error:
                _note_held(consumers, found)
        findings.looked_at += looked_at
    findings.consumers = sorted(consumers.values(), key=lambda each: each.id)
    return findings


async def look_at_old(queue: Queue) -> dict[str, OldConsumer]:
    """The old consumers that hold items, by their ids."""
    consumers = await _old_consumers(queue)
    if consumers:
        async for found in each_found(queue):
            _note_held(consumers, found)
    return consumers


async def _old_consumers(queue: Queue) -> dict[str, OldConsumer]:
    counts = await queue.old_consumers()
    return {each: OldConsumer(each, count) for each, count in counts.items()}


def _note(findings: Findings, found: Found, *, is_error: bool) -> None:
    writer = writer_of(found.item)
    place = "errors" if is_error else found.place
    if place not in findings.counts:
        return
    findings.counts[place][writer] += 1
    pushed = found.item.get("first_push_time")
    if is_number(pushed):
        findings.newest[writer] = max(pushed, findings.newest.get(writer, 0.0))


def _note_held(consumers: Mapping[str, OldConsumer], found: Found) -> None:
    consumer = consumers.get(found.worker or "")
    if consumer is None:
        return
    if found.lease_until is not None:
        consumer.heartbeat_seconds = max(0.0, found.lease_until - time.time())
    consumer.held.add(repr(found.item))
    pushed = found.item.get("first_push_time")
    if is_number(pushed):
        consumer.oldest_time = min(pushed, consumer.oldest_time or pushed)


@click.group(cls=NamingGroup)
def migrate() -> None:
    """Look after a fleet of both generations on one Redis.

    docs/python2.md has the steps of such a migration.
    """


@migrate.command()
@instance_argument
@click.option(
    "--sample", type=click.IntRange(0), default=10_000, show_default=True, metavar="N",
    help="Look at so many items of each queue at most; 0: at all of them.",
)  # fmt: skip
@json_option
@debug_option
def status(path: str, sample: int, as_json: bool) -> None:
    """Say who still writes and reads classic items, and whether serializer="classic" may go.

    Exit code 0 if it may go, 1 if not. An idle consumer of the Python 2 library leaves no trace in
    Redis, so make sure yourself that none is started any more.
    """

    async def do(instance: Deferrable) -> None:
        _check_redis(path, instance)
        backend = instance.backend
        findings = await look(backend.queue, backend.error_queue, sample)
        reasons = findings.reasons(time.time())
        if as_json:
            print_json(_as_data(findings, reasons))
        else:
            _show(findings, reasons)
        if reasons:
            sys.exit(ERROR)

    with_instance(path, do)


@migrate.command()
@instance_argument
@click.argument("consumers", metavar="[CONSUMER...]", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only show what would be taken back.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--watch-seconds", type=click.FloatRange(0), default=5.0, show_default=True,
    metavar="SECONDS",
    help="How long their items must not change before they are taken back.",
)  # fmt: skip
@json_option
@debug_option
def adopt(
    path: str,
    consumers: Sequence[str],
    dry_run: bool,
    yes: bool,
    watch_seconds: float,
    as_json: bool,
) -> None:
    """Take back what dead consumers of the Python 2 library hold.

    A consumer with a heartbeat, or whose items change while this command watches, is alive and
    keeps its items. One that runs a long job cannot be told from a dead one: stop them all first.
    Exit code 1 if a consumer kept its items.
    """
    is_asking = not (yes or dry_run)
    if is_asking:
        check_terminal("what is taken back runs again", "add --yes, or --dry-run to take nothing")

    async def do(instance: Deferrable) -> None:
        _check_redis(path, instance)
        queue, start_time = instance.backend.queue, time.monotonic()
        first = _wanted(await look_at_old(queue), consumers)
        if not as_json or is_asking:
            _show_consumers(list(first.values()), is_error=as_json)
        silent = [each for each in first.values() if each.heartbeat_seconds <= 0]
        if silent and is_asking:
            click.confirm(_question(silent), abort=True, err=True)
        if silent:
            await asyncio.sleep(max(0.0, start_time + watch_seconds - time.monotonic()))
        # After the answer, however long that took: a consumer may have come to life.
        dead, kept = _judge(first, await look_at_old(queue) if silent else first)
        taken = {} if dry_run else await _take_back(queue, dead, kept)
        count = sum(each.items for each in dead)
        reasons = {each.id: why for each, why in kept}
        if as_json:
            found = {each.id: each.items for each in dead}
            print_json({"found": found, "taken_back": taken, "kept": reasons})
        else:
            _tell_adopted(count, taken, reasons, is_dry=dry_run)
        if kept:
            sys.exit(ERROR)

    with_instance(path, do)


def _wanted(found: Mapping[str, OldConsumer], wanted: Sequence[str]) -> Mapping[str, OldConsumer]:
    """Those of `found` with these ids; without any, all.

    Raises:
        CommandError: a wanted one holds nothing, or is none.
    """
    missing = [each for each in wanted if each not in found]
    if missing:
        raise CommandError(
            f"no Python 2 consumer {', '.join(missing)} holds items; see deferrable migrate status",
            USAGE,
        )
    return {each: found[each] for each in sorted(wanted or found)}


def _question(silent: Sequence[OldConsumer]) -> str:
    count = sum(each.items for each in silent)
    return (
        f"give back {count:,} items of {len(silent)} Python 2 consumers? Each runs again; if its "
        "consumer is alive, it runs twice"
    )


def _judge(
    first: Mapping[str, OldConsumer], second: Mapping[str, OldConsumer]
) -> tuple[list[OldConsumer], list[tuple[OldConsumer, str]]]:
    """The consumers that seem to be dead, and the others with the reason why they are not.

    One that was alive at the first look is not dead: nobody was asked about it.
    """
    dead: list[OldConsumer] = []
    kept: list[tuple[OldConsumer, str]] = []
    for before in first.values():
        now = second.get(before.id)
        if now is None:  # it has none any more
            continue
        rest = max(before.heartbeat_seconds, now.heartbeat_seconds)
        if rest > 0:
            kept.append((now, f"its heartbeat lasts for another {seconds_text(rest)}"))
        elif now.held != before.held or now.items != before.items:
            kept.append((now, "its items changed while this command watched"))
        else:
            dead.append(now)
    return dead, kept


async def _take_back(
    queue: Queue, dead: Sequence[OldConsumer], kept: list[tuple[OldConsumer, str]]
) -> dict[str, int]:
    taken: dict[str, int] = {}
    for each in dead:
        try:
            taken[each.id] = await queue.take_back(each.id)
        except InvalidOptions as refusal:  # it has come to life meanwhile
            kept.append((each, str(refusal)))
    return taken


def _check_redis(path: str, instance: Deferrable) -> None:
    queue = instance.backend.queue
    if not queue.HAS_OLD_CONSUMERS:
        raise CommandError(
            f"{path} is on {queue!r}; the Python 2 library shares queues on Redis only", USAGE
        )


# What is printed.


def _show(findings: Findings, reasons: Sequence[str]) -> None:
    made = table("items", *(f">{writer}" for writer in _WRITERS[:3]), ">unreadable")
    for place, counts in findings.counts.items():
        made.add_row(place, *(f"{counts[writer]:,}" for writer in _WRITERS))
    newest = [findings.newest.get(writer) for writer in _WRITERS]
    made.add_row("newest", *("-" if each is None else age_text(each) for each in newest))
    console = to_output()
    console.print(made)
    if findings.consumers:
        _show_consumers(findings.consumers)
    if reasons:
        click.echo('serializer="classic" must stay:')
        for reason in reasons:
            click.echo(f"- {reason}")
    else:
        click.echo('serializer="classic" may go, if no Python 2 consumer is started any more')


def _show_consumers(consumers: Sequence[OldConsumer], *, is_error: bool = False) -> None:
    if not consumers:
        return
    made = table("Python 2 consumer", ">items", ">oldest pushed", "state")
    for each in consumers:
        state = each.state
        if each.heartbeat_seconds > 0:
            state += f", heartbeat lasts for {seconds_text(each.heartbeat_seconds)}"
        made.add_row(untrusted(each.id), f"{each.items:,}", age_text(each.oldest_time), state)
    to_output(is_error).print(made)


def _tell_adopted(count: int, taken: dict[str, int], kept: dict[str, str], *, is_dry: bool) -> None:
    for consumer_id, why in kept.items():
        to_output().print(untrusted(f"{consumer_id} keeps its items: {why}"))
    if is_dry:
        click.echo(f"a dry run: {count:,} items would be given back")
    elif count:
        click.echo(f"gave back {sum(taken.values()):,} items")
    elif not kept:
        click.echo("no Python 2 consumer holds items")


def _as_data(findings: Findings, reasons: Sequence[str]) -> dict[str, Any]:
    return {
        "items": {place: dict(counts) for place, counts in findings.counts.items()},
        "newest_push_times": findings.newest,
        "looked_at": findings.looked_at,
        "is_whole": findings.is_whole,
        "old_consumers": [
            {
                "id": each.id,
                "items": each.items,
                "heartbeat_seconds": each.heartbeat_seconds,
                "oldest_push_time": each.oldest_time,
            }
            for each in findings.consumers
        ],
        "may_drop_classic": not reasons,
        "reasons": list(reasons),
    }
