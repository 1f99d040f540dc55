"""``deferrable move``. Owns the two books that it prints, and its exit codes.

The rule: the books are counted by the brokers before and after, and the tally by what this command
did. They may differ where producers and workers are at work, and in SQS, whose counts lag behind.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import click

from deferrable._moving import Tally
from deferrable.aio._engine.moving import Lane
from deferrable.aio._engine.moving import move as move_items
from deferrable.aio.backend import Backend
from deferrable.aio.worker._polling import same_queue
from deferrable.cli.command_error import ERROR, USAGE, CommandError, debug_option
from deferrable.cli.places import backend_at, is_url, shown_place
from deferrable.cli.printing import escaped, json_option, print_json, table, to_output, untrusted
from deferrable.errors import BackendError, DeferrableError
from deferrable.item import group_text

__all__ = ["move"]

_COUNTS = ("available", "in_flight", "delayed", "errors")
_PAUSED = "SRC is paused, so nothing available can be taken; resume it first"
_PROGRESS_SECONDS = 1.0


@click.command()
@click.argument("source_place", metavar="SRC")
@click.argument("target_place", metavar="DST")
@click.option("--group", default=None, help="The group of the queues that URLs name.")
@click.option(
    "--until-empty", is_flag=True,
    help="Go on until SRC is empty: wait for items in flight, delayed ones in SQS, and new ones.",
)  # fmt: skip
@click.option("--no-errors", is_flag=True, help="Leave the error queue as it is.")
@click.option("--dry-run", is_flag=True, help="Only count both sides.")
@json_option
@debug_option
def move(
    source_place: str,
    target_place: str,
    group: str | None,
    until_empty: bool,
    no_errors: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move the items of a live queue to another broker: waiting, delayed and failed ones.

    SRC and DST are instances (app:old app:new) or URLs (redis://localhost sqs://eu-west-1).
    Producers and workers may go on meanwhile. Run it again after an error or a kill.
    """
    source, target = _pair(source_place, target_place, group)
    moving = _Moving(source, target, until_empty=until_empty, with_errors=not no_errors)
    with _one_line_errors():
        failure = asyncio.run(moving.run(is_dry=dry_run, shows_progress=not as_json))
    names = (shown_place(source_place), shown_place(target_place))
    if as_json:
        print_json(moving.as_data(*names, failure))
    else:
        _show(moving, *names, is_dry=dry_run)
    if failure is not None:
        raise CommandError(f"{failure}; run the same command again to go on") from failure
    if moving.tally.refused_count or (moving.has_left and not dry_run):
        sys.exit(ERROR)


def _pair(source_place: str, target_place: str, group: str | None) -> tuple[Backend, Backend]:
    """Both backends. A URL beside an instance has the group of that, unless one is given."""
    places = (source_place, target_place)
    if group is not None and not any(map(is_url, places)):
        raise CommandError("--group is for URLs; an instance has its own group", USAGE)
    by_place: dict[str, Backend] = {}
    for place in sorted(places, key=is_url):  # the instance comes first
        if by_place and group is None:
            group = next(iter(by_place.values())).group
        by_place[place] = backend_at(place, group, must_exist=place == source_place)
    source, target = by_place[source_place], by_place[target_place]
    _check_pair(source, target)
    return source, target


def _check_pair(source: Backend, target: Backend) -> None:
    if same_queue([source.queue, target.queue]) is not None:
        raise _same(source)
    if (source.group or None) != (target.group or None):
        raise CommandError(
            f"SRC has {group_text(source.group)} and DST {group_text(target.group)}; a signature "
            "is valid in one group only, so both must have the same (--group for a URL)",
            USAGE,
        )


def _same(source: Backend) -> CommandError:
    return CommandError(f"SRC and DST are the same queue: {source.queue!r}", USAGE)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except DeferrableError as error:
        raise CommandError(str(error)) from error


class _Moving:
    """One run of the command.

    Attributes:
        tally: what happened to all items.
        before, after: the books of both sides, as their brokers counted them.
        is_stopped: a signal has ended it.
        is_paused: consumers of the source take nothing.
    """

    def __init__(
        self, source: Backend, target: Backend, *, until_empty: bool, with_errors: bool
    ) -> None:
        self._source = source
        self._target = target
        self._until_empty = until_empty
        self._shown_time = 0.0
        self._shows_progress = False
        self.tally = Tally()
        self.main = self._lane()
        self.errors = self._lane(is_for_errors=True) if with_errors else None
        self.before: list[dict[str, int]] = []
        self.after: list[dict[str, int]] = []
        self.is_stopped = False
        self.is_paused = False

    @property
    def has_left(self) -> bool:
        """Whether it ended before it had tried everything."""
        return self.is_stopped or (self.is_paused and self.after[0]["available"] > 0)

    def _lane(self, *, is_for_errors: bool = False) -> Lane:
        names = "error_queue" if is_for_errors else "queue"
        return Lane(
            getattr(self._source, names),
            getattr(self._target, names),
            is_stopped=lambda: self.is_stopped,
            on_progress=self._tell_progress,
            is_for_errors=is_for_errors,
            tally=self.tally,
        )

    async def run(self, *, is_dry: bool, shows_progress: bool) -> BackendError | None:
        """Move, and count before and after. Return the error that ended it, if one did.

        Raises:
            DeferrableError: nothing could be counted, so nothing was moved.
        """
        self._shows_progress = shows_progress and sys.stderr.isatty()
        try:
            # Two addresses may lead to one server: what is "already there" would be removed.
            places = [await each.queue.locate() for each in (self._source, self._target)]
            if places[0] is not None and places[0] == places[1]:
                raise _same(self._source)
            self.before = [await _book(each) for each in (self._source, self._target)]
            failure = None if is_dry else await self._move()
            self.after = self.before
            with suppress(BackendError):
                if not is_dry:
                    self.after = [await _book(each) for each in (self._source, self._target)]
                self.is_paused = "paused_seconds" in await self._source.queue.stats()
            return failure
        finally:
            for each in (self._source, self._target):
                with suppress(DeferrableError):
                    await each.close()

    async def _move(self) -> BackendError | None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        try:
            await move_items(self.main, self.errors, until_empty=self._until_empty)
        except BackendError as error:
            return error
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return None

    def _stop(self) -> None:
        self.is_stopped = True
        click.echo("stopping after the items in hand", err=True)

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if self._shows_progress and now - self._shown_time >= _PROGRESS_SECONDS:
            self._shown_time = now
            click.echo(f"{self.tally.moved:,} moved", err=True)

    def left_text(self) -> list[str]:
        """What is still in the source, and why."""
        book, refused = self.after[0], self.tally.refused_count
        lines = []
        if self.is_stopped:
            lines.append("stopped by a signal, before everything was tried")
        if self.is_paused:
            lines.append(_PAUSED)
        if book["in_flight"]:
            lines.append(f"{book['in_flight']:,} in flight at SRC: left to their workers")
        if book["delayed"] and not self.is_stopped:
            can_see = self._source.queue.SUPPORTS_CANCEL
            why = "refused, or new" if can_see else "SQS shows them when they are due"
            lines.append(f"{book['delayed']:,} delayed at SRC: {why}")
        if book["available"] > refused and not self.has_left:
            lines.append(f"{book['available']:,} available at SRC: refused, new, or given back")
        if not any(self.before[0].values()):
            lines.append(f"SRC had nothing to move in {group_text(self._source.group)}")
        if lines and not self._until_empty and any(book[name] for name in _COUNTS):
            lines.append("run it again, or with --until-empty, for what is left")
        return lines

    def as_data(self, source: str, target: str, failure: Exception | None) -> dict[str, Any]:
        """The result for programs."""
        tally = self.tally
        return {
            "source": {"place": source, "before": self.before[0], "after": self.after[0]},
            "target": {"place": target, "before": self.before[1], "after": self.after[1]},
            "moved": tally.moved,
            "already_there": tally.found,
            "doubled": tally.doubled,
            "unsure": tally.unsure,
            "refused": [
                {"reason": reason, "items": count, "ids": tally.refused_ids[reason]}
                for reason, count in tally.refused.most_common()
            ],
            "is_stopped": self.is_stopped,
            "is_paused": self.is_paused,
            "error": None if failure is None else str(failure),
        }


async def _book(backend: Backend) -> dict[str, int]:
    waiting = await backend.queue.stats()
    failed = await backend.error_queue.stats()
    book = {name: int(waiting.get(name, 0)) for name in _COUNTS[:3]}
    book["errors"] = sum(int(failed.get(name, 0)) for name in _COUNTS[:3])
    return book


def _show(moving: _Moving, source: str, target: str, *, is_dry: bool) -> None:
    made = table("queue", "", ">available", ">in flight", ">delayed", ">errors")
    for number, (title, place) in enumerate((("SRC", source), ("DST", target))):
        books = (
            {"now": moving.before} if is_dry else {"before": moving.before, "after": moving.after}
        )
        for when, sides in books.items():
            counts = [f"{sides[number][name]:,}" for name in _COUNTS]
            is_first = when in ("now", "before")
            made.add_row(untrusted(f"{title} {place}") if is_first else "", when, *counts)
    console = to_output()
    console.print(made)
    if is_dry:
        if moving.is_paused:
            click.echo(_PAUSED)
        click.echo("a dry run: nothing was moved")
        return
    tally = moving.tally
    click.echo(
        f"moved {tally.moved:,}, already there {tally.found:,}, doubled {tally.doubled:,}, "
        f"refused {tally.refused_count:,}"
    )
    if tally.unsure:
        click.echo(
            f"{tally.unsure:,} of those moved had been delivered before, and DST cannot tell "
            "whether it has them from an earlier move; those may run twice"
        )
    _show_refused(tally.refused, tally.refused_ids)
    for line in moving.left_text():
        click.echo(line)


def _show_refused(refused: Mapping[str, int], ids: Mapping[str, list[str]]) -> None:
    for reason, count in refused.items():
        named = ", ".join(ids[reason]) + (", ..." if count > len(ids[reason]) else "")
        first = "" if count == 1 else "; the first"
        click.echo(escaped(f"refused {count:,}, left at SRC{first}: {reason} ({named})"))
