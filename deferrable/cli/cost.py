"""``deferrable cost``. Owns the reading of numbers such as ``5M`` and ``2k``, and the table."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from deferrable.cli.command_error import USAGE, CommandError, debug_option
from deferrable.cli.printing import json_option, print_json, table, to_output
from deferrable.errors import InvalidOptions

if TYPE_CHECKING:
    from deferrable.aio.backend.sqs import Bill

__all__ = ["cost"]

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(k|m|g|b|%)?", re.IGNORECASE | re.ASCII)
_THOUSANDS = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "%": 0.01}
_BYTES = {"k": 2.0**10, "m": 2.0**20, "g": 2.0**30}


def _reader(factors: Mapping[str, float]) -> Callable[[Any], float]:
    """What reads a number with a unit.

    Args:
        factors: what a letter after the number multiplies it by.
    """

    def read(value: Any) -> float:
        text = str(value).strip().replace(",", "").replace("_", "")
        found = _NUMBER.fullmatch(text)
        unit = (found[2] or "").lower() if found else ""
        if found is None or (unit and unit not in factors):
            raise click.BadParameter(f"{value!r} is no number; write one such as 5000, 2k or 5M")
        return float(found[1]) * factors.get(unit, 1.0)

    return read


COUNT, SIZE = _reader(_THOUSANDS), _reader(_BYTES)


@click.command()
@click.option("--jobs", type=COUNT, required=True, metavar="N", help="Calls in a month: 5M.")
@click.option(
    "--burst", type=COUNT, default=1, show_default=True, metavar="N",
    help="How many are deferred together, by later_many.",
)  # fmt: skip
@click.option(
    "--size", "size_bytes", type=SIZE, default=2048, show_default=True, metavar="BYTES",
    help="Of one item: 2k.",
)  # fmt: skip
@click.option("--workers", type=int, default=1, show_default=True, help="Processes that poll.")
@click.option(
    "--concurrency", type=int, default=10, show_default=True, help="Jobs of each at once."
)
@click.option(
    "--seconds", "job_seconds", type=float, default=0.1, show_default=True, help="A job's length."
)
@click.option(
    "--wait", "wait_seconds", type=float, default=20.0, show_default=True, metavar="SECONDS",
    help="The wait_time of the factory.",
)  # fmt: skip
@click.option(
    "--visibility", "visibility_seconds", type=click.FloatRange(1), default=30.0,
    show_default=True, metavar="SECONDS", help="Its visibility_timeout.",
)  # fmt: skip
@click.option(
    "--delay", "delay_seconds", type=float, default=0.0, metavar="SECONDS", help="Of each call."
)
@click.option(
    "--errors", "error_share", type=COUNT, default=0.0, metavar="SHARE",
    help="The part of the jobs that fails for good: 1%.",
)  # fmt: skip
@click.option("--fifo", "is_fifo", is_flag=True, help="A FIFO queue.")
@click.option("--price", type=float, default=None, metavar="DOLLARS", help="Of a million requests.")
@json_option
@debug_option
def cost(as_json: bool, **options: Any) -> None:
    """Estimate what SQS costs in a month of 30 days, next to a naive use of it.

    The naive use sends, receives and deletes items one by one, and each worker polls once a second.
    The free million of each month is not subtracted.
    """
    try:
        # Here: the adapter imports a client of AWS, and no other command shall wait for that.
        from deferrable.aio.backend.sqs import Load, bill, naive_bill
    except ImportError as error:
        raise CommandError(str(error)) from error
    try:
        load = Load(**options)
    except InvalidOptions as error:
        raise CommandError(str(error), USAGE) from error
    ours, naive = bill(load), naive_bill(load)
    if as_json:
        print_json({"deferrable": _as_data(ours), "naive": _as_data(naive)})
    else:
        _show(ours, naive)


def _as_data(made: "Bill") -> dict[str, Any]:
    return {
        "requests": {name: round(count) for name, count in made.requests.items()},
        "total": round(made.total),
        "requests_per_job": made.requests_per_job,
        "dollars": round(made.dollars, 4),
        "price_of_million": made.price,
    }


def _show(ours: "Bill", naive: "Bill") -> None:
    made = table("requests in a month", ">deferrable", ">naive")
    for name, count in ours.requests.items():
        other = naive.requests[name]
        if count or other:
            made.add_row(name, f"{count:,.0f}", f"{other:,.0f}")
    made.add_row("all", f"{ours.total:,.0f}", f"{naive.total:,.0f}")
    made.add_row("for each job", _per_job(ours), _per_job(naive))
    made.add_row(
        f"at ${ours.price:.2f} a million", f"${ours.dollars:,.2f}", f"${naive.dollars:,.2f}"
    )
    to_output().print(made)


def _per_job(made: "Bill") -> str:
    return "-" if made.requests_per_job is None else f"{made.requests_per_job:.3f}"
