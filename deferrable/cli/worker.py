"""``deferrable worker``. Owns its options, and who does the work: this process, or children."""

import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn

import click

from deferrable.cli.command_error import CommandError, debug_option
from deferrable.cli.early import set_exit_code
from deferrable.cli.loading import check_apart, check_shared, load_all
from deferrable.cli.logs import LEVELS, configure, enable_loggers
from deferrable.cli.naming import NamingCommand, instances_argument
from deferrable.cli.reloading import restart_process, wait_for_change_below
from deferrable.cli.serving import RELOAD, Serving, WorkerSettings, serve
from deferrable.cli.signals import Signals, Stopped
from deferrable.cli.supervising import child_index, supervise, watch_parent
from deferrable.cli.web import listen

__all__ = ["worker"]

_logger = logging.getLogger("deferrable.cli")

DEFAULT_GRACE_SECONDS = 30.0
DEFAULT_STUCK_SECONDS = 300.0
_TOO_MANY_THREADS = (
    "--threads %d is more than --concurrency %d, which limits how many jobs run at once; raise "
    "--concurrency, or leave out --threads"
)


def read_weights(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> list[float] | None:
    """The numbers of ``--weights``."""
    if text is None:
        return None
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(
            f"numbers with commas between them, such as 3,1; got {text!r}"
        ) from error


def read_share(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> float | None:
    """The number of ``--rehearse-duplicates``, from 0 to 1."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise click.BadParameter(f"a share of the jobs, such as 1% or 0.01; got {text!r}")
    return share


@click.command(cls=NamingCommand)
@instances_argument
@click.option(
    "--concurrency", "-c", type=click.IntRange(1), default=100, show_default=True,
    help="How many jobs run at once.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1), default=None,
    help="How many of them may be plain functions.  [default: 32]",
)  # fmt: skip
@click.option(
    "--prefetch", type=click.IntRange(0), default=0, show_default=True,
    help="How many items of short jobs to pop before there are slots for them.",
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(1), default=None,
    help="How many processes run jobs; one that dies is restarted.  [default: this one, alone]",
)  # fmt: skip
@click.option(
    "--grace", "grace_seconds", type=click.FloatRange(0), default=DEFAULT_GRACE_SECONDS,
    show_default=True, metavar="SECONDS", help="How long running jobs may go on after a signal.",
)  # fmt: skip
@click.option(
    "--health-port", type=click.IntRange(1, 65535), default=None,
    help="Serve /live, /ready and /health on this port; process 2 uses the next one, and so on.",
)  # fmt: skip
@click.option(
    "--health-host", default="127.0.0.1", show_default=True, help="The address for --health-port."
)
@click.option(
    "--metrics", "has_metrics", is_flag=True,
    help="Count for Prometheus, and serve /metrics on the health port.",
)  # fmt: skip
@click.option(
    "--heartbeat-file", "heartbeat_path", type=click.Path(dir_okay=False, path_type=Path),
    default=None, metavar="PATH",
    help="Touch this file each second while the process is live; process 2 uses PATH.2.",
)  # fmt: skip
@click.option(
    "--stuck-seconds", type=click.FloatRange(1), default=DEFAULT_STUCK_SECONDS, show_default=True,
    metavar="SECONDS", help="How long a job may hold the event loop before /live is 503.",
)  # fmt: skip
@click.option(
    "--order", type=click.Choice(["fair", "strict"]), default="fair", show_default=True,
    help="Of several instances: share the slots, or serve the first that has items.",
)  # fmt: skip
@click.option(
    "--weights", callback=read_weights, metavar="N,N,...", default=None,
    help="Of several instances: the share of each while all have items.",
)  # fmt: skip
@click.option(
    "--burst", "is_burst", is_flag=True,
    help="End when nothing is available or in flight; delayed items are not waited for.",
)  # fmt: skip
@click.option(
    "--report/--no-report", default=True, show_default=True,
    help="Have deferrable workers and dashboards show this worker.",
)  # fmt: skip
@click.option(
    "--rehearse-duplicates", "rehearsed_share", callback=read_share, metavar="SHARE", default=None,
    help="For staging: run this share of the jobs twice, and report what differs, such as 1%.",
)  # fmt: skip
@click.option("--reload", "is_reloading", is_flag=True, help="Restart when the code changes.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@debug_option
@click.pass_context
def worker(
    context: click.Context,
    paths: Sequence[str],
    concurrency: int,
    threads: int | None,
    prefetch: int,
    processes: int | None,
    grace_seconds: float,
    health_port: int | None,
    health_host: str,
    has_metrics: bool,
    heartbeat_path: Path | None,
    stuck_seconds: float,
    order: Literal["fair", "strict"],
    weights: Sequence[float] | None,
    is_burst: bool,
    report: bool,
    rehearsed_share: float | None,
    is_reloading: bool,
    log_format: str,
    log_level: str,
) -> None:
    """Run the jobs of one or more instances.

    SIGTERM or SIGINT stops it: nothing more is popped, and running jobs have the grace period. Then
    async jobs are cancelled, and all unfinished items are given back. A second signal ends the
    grace period.
    """
    index = child_index()
    is_supervisor = processes is not None and index is None
    name = "supervisor" if is_supervisor else "" if index is None else str(index + 1)
    configure(log_format, log_level, name)
    if index is None and threads is not None and threads > concurrency:
        _logger.warning(_TOO_MANY_THREADS, threads, concurrency)
    _check_together(
        metrics=has_metrics, health_port=health_port, burst=is_burst, processes=processes
    )
    if processes is not None and index is None:
        _leave(context, supervise(processes, grace_seconds, stuck_seconds))
    if index is not None:
        watch_parent()
        health_port = None if health_port is None else health_port + index
        heartbeat_path = None if heartbeat_path is None else nth_path(heartbeat_path, index)
    serving = Serving(
        WorkerSettings(
            concurrency=concurrency,
            threads=threads,
            prefetch=prefetch,
            grace_seconds=grace_seconds,
            order=order,
            weights=weights,
            report=report,
        ),
        None,
        heartbeat_path,
        has_metrics,
        stuck_seconds,
        is_burst,
        is_reloading,
        rehearsed_share,
    )
    code = _work(paths, serving, None if health_port is None else (health_host, health_port))
    if code == RELOAD:
        restart_process()
    _leave(context, code)


def _work(paths: Sequence[str], serving: Serving, health_address: tuple[str, int] | None) -> int:
    """Load the instances, and serve them. Return the exit code, or `RELOAD`."""
    with Signals() as signals:
        try:
            with signals.raising():
                named = load_all(paths)
                enable_loggers()
                check_apart(named)
                check_shared(named)
                if health_address is not None:
                    bound = listen(*health_address, "health", "--health-")
                    serving = replace(serving, health_socket=bound)
            return serve(named, serving, signals)
        except Stopped as stopped:
            return _stopped(stopped.name)
        except CommandError as error:
            if not serving.is_reloading:
                set_exit_code(error.exit_code)
                raise
            return _wait_for_change(error, signals)


def _check_together(
    *, metrics: bool, health_port: int | None, burst: bool, processes: int | None
) -> None:
    """Refuse options that do not go with each other."""
    if metrics and health_port is None:
        raise click.UsageError("--metrics are served on the health port; give --health-port")
    if burst and processes is not None:
        raise click.UsageError("--burst is for one process, which ends; leave out --processes")


def nth_path(path: Path, index: int) -> Path:
    """The heartbeat file of a child, counted from 0."""
    return path if index == 0 else path.with_name(f"{path.name}.{index + 1}")


def _leave(context: click.Context, code: int) -> NoReturn:
    set_exit_code(code)
    context.exit(code)


def _stopped(cause: str) -> int:
    _logger.info("stopped (%s) before any work (process %d)", cause, os.getpid())
    return 0


def _wait_for_change(error: CommandError, signals: Signals) -> int:
    """Wait until the code is fixed. Return `RELOAD`, or the exit code after a signal."""
    error.show()
    click.echo("waiting for a change", err=True)
    heard: list[int] = []

    def wait(seconds: float) -> bool:
        number = signals.wait(seconds)
        if number is not None:
            heard.append(number)
        return bool(heard)

    wait_for_change_below(Path.cwd(), wait)
    return _stopped(signal.Signals(heard[0]).name) if heard else RELOAD
