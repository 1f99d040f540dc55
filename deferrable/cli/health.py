"""What a supervisor of the process may ask: ``/live``, ``/ready`` and ``/health``.

Owns the answers, those of an exporter too. ``/live``: a restart would not help. ``/ready``: the
worker takes items. ``/health``: the state of each queue.

The rule: ``/live`` does not depend on the broker. Otherwise an outage of the broker restarts every
worker, again and again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from deferrable.aio.worker import Health
from deferrable.cli.vitals import Vitals
from deferrable.cli.web import Answer, Request, Route, json_answer

__all__ = ["health_routes", "live_route", "ready_route"]


def health_routes(health: Health, vitals: Vitals) -> Mapping[str, Route]:
    """What answers for each path of a worker."""

    def healthy(request: Request) -> Answer:
        is_healthy = health.is_healthy
        queues = {name: asdict(each) for name, each in health.queues().items()}
        answer = {"status": "healthy" if is_healthy else "unhealthy", "queues": queues}
        return json_answer(200 if is_healthy else 503, answer)

    return {
        "/live": live_route(vitals),
        "/ready": ready_route(health.obstacles),
        "/health": healthy,
    }


def live_route(vitals: Vitals) -> Route:
    """What answers whether the process still works."""

    def live(request: Request) -> Answer:
        held_seconds, is_live = vitals.held_seconds, vitals.is_live
        answer = {"status": "live" if is_live else "stuck", "held_seconds": round(held_seconds, 3)}
        return json_answer(200 if is_live else 503, answer)

    return live


def ready_route(obstacles: Callable[[], Sequence[str]]) -> Route:
    """What answers whether nothing is in the way.

    Args:
        obstacles: one line for each reason.
    """

    def ready(request: Request) -> Answer:
        reasons = obstacles()
        answer = {"status": "not ready" if reasons else "ready", "reasons": reasons}
        return json_answer(503 if reasons else 200, answer)

    return ready
