"""Import paths that users may have written, and what an underscore on a path says."""

import importlib

import pytest
from test_arrows import MODULES

BOTH_APIS = """
    ArgumentMismatch Backend BackendError BackendFactory BackendUnavailable BlocksEventLoop BoundJob
    Call CallHandle CallState CalledFromEventLoop Clock CurrentAttempt DebounceStore Deferrable
    DeferrableError Deferral EndedCall Envelope ErrorItem ErrorItems InMemoryDebounceStore
    InMemoryResults InvalidOptions ItemTooLarge Job JobFailed LeaseLost MetadataProducerConsumer
    Middleware Outcome Pause PeekedCall Push Queue Receipt Release ResultExpired ResultStore Retry
    SerializationError Touch UnreadableItem
    UnserializableCall Unsupported Worker WorkerReport WrongApi current_attempt
    gather_results
    results_as_they_end
"""
BACKENDS = """
    Backend BackendFactory DocketsBackendFactory InMemoryBackendFactory RedisDebounceStore
    RedisResults S3Store SQLiteBackendFactory SQSBackendFactory from_url
"""
PUBLIC = {
    # The documented doors.
    "deferrable": BOTH_APIS,
    "deferrable.aio": BOTH_APIS,
    "deferrable.aio.backend": BACKENDS,
    "deferrable.backend": BACKENDS,
    "deferrable.pickling": "build_later_item dumps loads pretty_unpickle unpickle_method_call",
    "deferrable.sync": BOTH_APIS,
    "deferrable.testing": """
        Deferrals Faults FaultyQueue MovingClock QueueConformance Simulated SimulationFailed
        WaitingQueueConformance deferrals_of simulate simulate_async wait_until
    """,
    # Where their names come from.
    "deferrable.aio.backend.base": "Backend BackendFactory",
    "deferrable.aio.backend.dockets": "DocketsBackendFactory DocketsErrorQueue DocketsQueue",
    "deferrable.aio.backend.memory": "InMemoryBackendFactory InMemoryQueue",
    "deferrable.aio.backend.sqlite": "SQLiteBackendFactory SQLiteQueue",
    "deferrable.aio.backend.sqs": "S3Store SQSBackendFactory SQSFifoQueue SQSQueue",
    "deferrable.aio.clock": "Clock SystemClock",
    "deferrable.aio.current": "CurrentAttempt current_attempt",
    "deferrable.aio.debounce": "DebounceKey DebounceStore InMemoryDebounceStore",
    "deferrable.aio.deferrable": "Deferrable",
    "deferrable.aio.envelope": "Envelope",
    "deferrable.aio.error_items": "ErrorItem ErrorItems",
    "deferrable.aio.job": "BoundJob Call Job",
    "deferrable.aio.peeked": "PeekedCall",
    "deferrable.aio.schedule": "Schedule",
    "deferrable.aio.schedules": "Admission InMemoryScheduleStore Plan Proposal ScheduleStore",
    "deferrable.aio.queue": "Envelope Item Push Queue Release Touch",
    "deferrable.aio.results": "EndedCall InMemoryResults KeptResult ResultStore",
    "deferrable.aio.worker": "Worker",
    "deferrable.aio.middleware": "Deferral Middleware",
    # Integrations, each with its own extra.
    "deferrable.contrib": "",
    "deferrable.contrib.dashboard": "app",
    "deferrable.contrib.django": "DeferrableBackend DeferrableTask task",
    "deferrable.contrib.django.apps": "DeferrableConfig",
    "deferrable.contrib.django.asgi": "with_dashboard",
    "deferrable.contrib.django.backend": "DeferrableBackend",
    "deferrable.contrib.django.tasks": "DeferrableTask instance_of periodic task",
    "deferrable.contrib.fastapi": "DeferAfter DeferredCalls",
    "deferrable.contrib.flask": "DeferrableExtension",
    "deferrable.contrib.litestar": "WorkersPlugin",
    "deferrable.contrib.starlette": "Lifespan health_routes workers_beside workers_of",
    "deferrable.contrib.correlation": "CorrelationId TraceParent correlation_id traceparent",
    "deferrable.contrib.logging": "AttemptFilter fields_of_attempt",
    "deferrable.contrib.opentelemetry": "OpenTelemetryMiddleware instrument",
    "deferrable.contrib.sentry": "SentryMiddleware instrument",
    "deferrable.contrib.structlog": "StructlogMiddleware instrument",
    "deferrable.contrib.prometheus": "PrometheusMiddleware instrument scrape",
    "deferrable.errors": "DeferrableError",
    "deferrable.metadata": "MetadataProducerConsumer",
    "deferrable.outcome": "Outcome OutcomeStatus Receipt ReceiptStatus",
    "deferrable.pause": "Pause",
    "deferrable.retry": "Retry",
    "deferrable.sync.backend": "Backend BackendFactory DocketsBackendFactory SQSBackendFactory",
    "deferrable.sync.deferrable": "Deferrable",
    "deferrable.sync.error_items": "ErrorItem ErrorItems",
    "deferrable.sync.queue": "Queue",
    "deferrable.sync.results": "gather_results results_as_they_end",
    "deferrable.sync.worker": "Worker",
    "deferrable.testing.clock": "MovingClock",
    "deferrable.worker_reports": "WorkerReport",
    "deferrable.testing.conformance": "QueueConformance WaitingQueueConformance",
    "deferrable.testing.deferrals": "Deferrals deferrals_of",
    "deferrable.testing.fault_script": "Faults",
    "deferrable.testing.faults": "FaultyQueue",
    "deferrable.testing.plugin": "deferrals",
    "deferrable.testing.simulation": "Simulated SimulationFailed simulate simulate_async",
    "deferrable.testing.waiting": "wait_until",
    # For authors of backends and of debounce stores, and for annotations.
    "deferrable.debounce": "Window confirm decide",
    "deferrable.events": "EVENTS",
    "deferrable.handles": "CallHandle CallState CallStatus",
    "deferrable.item": "Item",
    "deferrable.lifecycle": "bury requeued with_error",
    "deferrable.options": "ErrorClasses OptionChanges Seconds",
}


@pytest.mark.parametrize("path", PUBLIC)
def test_public_path_gives_its_names(path: str) -> None:
    module = importlib.import_module(path)

    lacking = [name for name in PUBLIC[path].split() if not hasattr(module, name)]

    assert lacking == []


def test_path_without_an_underscore_is_public_or_of_the_command_line() -> None:
    commands: tuple[str, ...] = ("deferrable.cli", "deferrable.contrib.django.management")
    commands += ("deferrable.contrib.flask.commands",)
    # The last one is loaded by a path on a command line, and needs a site of Django.
    commands += ("deferrable.contrib.django.queues",)
    plain = {path for path in MODULES if "._" not in path and not path.startswith(commands)}

    assert plain == set(PUBLIC)
