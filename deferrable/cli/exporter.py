"""``deferrable exporter``. Owns its options, the loop that reads the queues, and what is served.

One process reads the queues for everybody who watches them: N workers that each counted would
report N times the items, and pay for N times the requests on SQS.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import click

from deferrable.aio._engine.keeper import Keeper
from deferrable.cli.command_error import CommandError, debug_option
from deferrable.cli.health import live_route, ready_route
from deferrable.cli.loading import Named, check_shared, load_all
from deferrable.cli.logs import LEVELS, configure, enable_loggers
from deferrable.cli.metrics import metrics_route, prometheus
from deferrable.cli.naming import NamingCommand, instances_argument
from deferrable.cli.queue_watch import QueueWatch
from deferrable.cli.vitals import Vitals
from deferrable.cli.web import Answer, Request, Route, WebServer, json_answer, listen
from deferrable.item import queue_name

__all__ = ["exporter"]

_logger = logging.getLogger("deferrable.cli")

DEFAULT_PORT = 9464
INTERVAL_SECONDS = 15.0
PAID_INTERVAL_SECONDS = 60.0
"""On a broker that is paid by requests."""
_STUCK_SECONDS = 60.0


@click.command(cls=NamingCommand)
@instances_argument
@click.option(
    "--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True,
    help="Serve /metrics and /autoscale.json on this port.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The address for --port.")
@click.option(
    "--interval", "interval_seconds", type=click.FloatRange(0.1), default=None, metavar="SECONDS",
    help="How often the queues are read.  [default: 15; 60 on SQS]",
)  # fmt: skip
@click.option(
    "--worker", "workers", multiple=True, metavar="URL",
    help="The /metrics of workers, for rates and slots; all addresses of its host are asked.",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@debug_option
def exporter(
    paths: Sequence[str],
    port: int,
    host: str,
    interval_seconds: float | None,
    workers: Sequence[str],
    log_format: str,
    log_level: str,
) -> None:
    """Serve the depths and ages of queues to Prometheus and autoscalers.

    Run it once for each set of queues, beside any number of workers.
    """
    for url in workers:
        if urlsplit(url).scheme != "http" or not urlsplit(url).hostname:
            raise click.UsageError(f"--worker takes an http:// URL, got {url!r}")
    configure(log_format, log_level)
    prometheus()
    from deferrable.contrib._queue_metrics import registry_of  # needs the extra

    named = load_all(paths)
    enable_loggers()
    check_shared(named)
    _check_names(named)
    if interval_seconds is None:
        is_paid = any(each.instance.backend.queue.POPS_AHEAD for each in named)
        interval_seconds = PAID_INTERVAL_SECONDS if is_paid else INTERVAL_SECONDS
    watch = QueueWatch(named, workers)
    routes = {"/metrics": metrics_route(registry_of(lambda: watch.readings))}
    asyncio.run(_serve(watch, listen(host, port, "metrics"), interval_seconds, routes))


def _check_names(named: Sequence[Named]) -> None:
    """Check that each metric can belong to one queue only.

    Raises:
        CommandError: two queues have the same name.
    """
    paths: dict[str, str] = {}
    for each in named:
        name = queue_name(each.instance.backend.group)
        other = paths.setdefault(name, each.path)
        if other != each.path:
            raise CommandError(
                f"the queues of {other} and {each.path} are both called {name}, so their numbers "
                "would be mixed up; name one of them, and run another exporter with another "
                "--port for the other"
            )


async def _serve(
    watch: QueueWatch,
    listener: socket.socket,
    interval_seconds: float,
    routes: Mapping[str, Route],
) -> None:
    loop, is_to_stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, is_to_stop.set)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(watch.close)
        vitals = stack.enter_context(Vitals(loop, Keeper(), _STUCK_SECONDS))
        server = stack.enter_context(WebServer(listener, {**routes, **_routes(watch, vitals)}))
        _logger.info(
            "exporter running (process %d), reads %s every %g s, serves %s",
            os.getpid(),
            ", ".join(each.path for each in watch.named),
            interval_seconds,
            server.summary,
        )
        reading = loop.create_task(_read_again_and_again(watch, interval_seconds))
        stopping = loop.create_task(is_to_stop.wait())
        await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, stopping):
            task.cancel()
        await asyncio.wait([reading, stopping])
        if not reading.cancelled():
            reading.result()
    _logger.info("stopped (process %d)", os.getpid())


async def _read_again_and_again(watch: QueueWatch, interval_seconds: float) -> None:
    while True:
        await watch.read()
        await asyncio.sleep(interval_seconds)


def _routes(watch: QueueWatch, vitals: Vitals) -> Mapping[str, Route]:
    def autoscale(request: Request) -> Answer:
        reasons = watch.obstacles()
        if reasons:
            # No numbers: an autoscaler must not take an outage for an empty queue.
            return json_answer(503, {"error": reasons[0], "reasons": reasons})
        return json_answer(200, watch.numbers())

    return {
        "/autoscale.json": autoscale,
        "/live": live_route(vitals),
        "/ready": ready_route(watch.obstacles),
    }
