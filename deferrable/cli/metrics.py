"""``/metrics`` of a process.

Owns how it is served, and the error for a missing extra.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deferrable.cli.command_error import CommandError
from deferrable.cli.loading import Named
from deferrable.cli.web import Answer, Request, Route

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["instrument_all", "metrics_route", "prometheus"]


def prometheus() -> Any:
    """The module `deferrable.contrib.prometheus`.

    Raises:
        CommandError: the extra is not installed.
    """
    try:
        from deferrable.contrib import prometheus
    except ImportError as error:
        raise CommandError(str(error)) from error
    return prometheus


def instrument_all(named: Sequence[Named], slots: int) -> None:
    """Count what these instances do in this process, if the application does not do it already."""
    for each in named:
        prometheus().instrument(each.instance).set_slots(slots)


def metrics_route(registry: "CollectorRegistry | None" = None) -> Route:
    """What answers with all metrics of a registry; None: of the usual one."""
    module = prometheus()
    registries = () if registry is None else (registry,)

    def metrics(request: Request) -> Answer:
        body, content_type = module.scrape(request.headers, *registries)
        return Answer(200, body, content_type)

    return metrics
