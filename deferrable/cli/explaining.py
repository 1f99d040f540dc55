"""``deferrable explain``. Owns what is asked for one call, and how the answers read.

The rules: nothing is taken or changed. What will happen comes from the functions that decide it, by
`deferrable._foresight`, and what cannot be known is said to be unknown.
"""

import sys
from dataclasses import asdict
from typing import Any

import click
from rich.table import Table

from deferrable._foresight import foresee
from deferrable.aio._engine.ending import longest_delay
from deferrable.aio.deferrable import Deferrable
from deferrable.aio.peeked import DescribedCall
from deferrable.cli.check import why_not_run
from deferrable.cli.command_error import ERROR, USAGE, CommandError, debug_option
from deferrable.cli.error_views import call_text
from deferrable.cli.explanation_texts import Known, Texts
from deferrable.cli.loading import check_not_local, with_instance
from deferrable.cli.naming import NamingCommand, command_line, instance_argument
from deferrable.cli.printing import json_option, print_json, to_output, untrusted
from deferrable.errors import UnreadableItem, Unsupported
from deferrable.handles import CallState

__all__ = ["explain"]

_WAITING = ("queued", "delayed", "retrying", "running")


@click.command(cls=NamingCommand)
@instance_argument
@click.argument("call_id", metavar="ID")
@json_option
@debug_option
def explain(path: str, call_id: str, as_json: bool) -> None:
    """Say where a call is, who holds it, and what happens next.

    The ID may be shortened. Exit code 1 if nothing is known of the call.
    """

    async def do(instance: Deferrable) -> None:
        check_not_local(path, instance, "ask for the state of the call inside that program")
        known = await _look(path, instance, await _whole_id(instance, call_id))
        if as_json:
            print_json(_as_data(known))
        else:
            to_output().print(_page(known))
        if known.state.status == "unknown":
            sys.exit(ERROR)

    with_instance(path, do)


async def _whole_id(instance: Deferrable, begun: str) -> str:
    """The id that begins so, of a call that a queue has; the text itself if there is none.

    Raises:
        CommandError: it is the beginning of several.
    """
    backend = instance.backend
    if not backend.queue.SUPPORTS_INSPECTION or not begun:
        return begun
    if await instance.call(begun).describe_async() is not None:
        return begun
    found = {each.id for each in await instance.peek(2, ids=[begun])}
    cursor = ""
    while backend.error_queue.SUPPORTS_PEEK and len(found) < 2:
        page, cursor = await backend.error_queue.peek(cursor)
        ids = (each.item.get("id") for each in page)
        found |= {each for each in ids if isinstance(each, str) and each.startswith(begun)}
        if not cursor:
            break
    if len(found) > 1:
        raise CommandError(f"{begun} is the beginning of several ids; give more of it", USAGE)
    return next(iter(found), None) or begun


async def _look(path: str, instance: Deferrable, call_id: str) -> Known:
    queue, errors = instance.backend.queue, instance.backend.error_queue
    now = instance.clock.time()
    described = await instance.calls().describe(call_id)
    state = CallState("unknown") if described is None else described.state
    item = {} if described is None else dict(described.item)
    requeue, show = (command_line(f"errors {e}", path, call_id) for e in ("requeue", "show"))
    known = Known(requeue, show, call_id, state, item, now)
    if described is not None:
        known.ending = described.ending
        failed = await errors.find(call_id) if errors.SUPPORTS_INSPECTION else None
        if failed is not None:
            if known.state.status in _WAITING:
                known.other_error = failed.item.get("error", {})
            elif known.state.status == "errored":
                known.item = failed.item
                described = DescribedCall(instance, failed.item, known.state)
        if known.item:
            known.job, known.call = described.job, call_text(described)
    known.can_find, known.max_redeliveries = queue.SUPPORTS_INSPECTION, queue.max_redeliveries
    if known.item:
        known.obstacle = why_not_run(instance, known.item)
        _foresee(instance, known)
    if queue.SUPPORTS_PAUSE:
        known.pause = await queue.find_pause()
    try:
        known.workers = await queue.find_workers()
    except Unsupported:
        known.workers = None
    return known


def _foresee(instance: Deferrable, known: Known) -> None:
    queue = instance.backend.queue
    if known.state.status not in _WAITING:
        return
    try:
        names = instance.protection.serializer_for(known.item).load_retry_names(known.item)
        known.retried_errors = tuple(sorted(name.rpartition(":")[2] for name in names))
        known.foresight = foresee(
            known.item,
            known.now,
            available_time=known.state.available_time,
            retries_errors=bool(names),
            max_delay_seconds=longest_delay(queue),
            hides_early=queue.SUPPORTS_RELEASE_DELAY,
        )
    except UnreadableItem as error:
        known.obstacle = known.obstacle or str(error)


def _page(known: Known) -> Table:
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    for label, text in Texts(known).lines():
        lines.add_row(label, untrusted(text))
    return lines


def _as_data(known: Known) -> dict[str, Any]:
    item = known.item
    return {
        "id": known.id,
        "job": known.job or None,
        **asdict(known.state),
        "ending": {name: known.ending.get(name) for name in ("status", "time", "start_time")}
        if known.ending
        else None,
        "next": None if known.foresight is None else asdict(known.foresight),
        "retried_errors": list(known.retried_errors),
        "unique_key": item.get("unique_key"),
        "would_run_here": known.obstacle is None if item else None,
        "why_not": known.obstacle,
        "other_error": known.other_error,
        "pause": None if known.pause is None else asdict(known.pause),
        "workers": None if known.workers is None else [asdict(each) for each in known.workers],
        "text": dict(Texts(known).lines()),
    }
