"""What metrics, traces and log fields cost: CPU a job, deferred and run, against none.

In one process on the queue in memory, so that nothing but this library and the integration is
measured. Each integration is measured against none, one right after the other; the table shows the
median of the differences. ``python benchmarks/observing.py [JOBS] [ROUNDS]``

Seconds of CPU depend on what else the machine does; how many instructions run does not.
``python benchmarks/observing.py --instructions`` counts these with valgrind, in about ten minutes.
"""

import asyncio
import gc
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from deferrable.aio import Deferrable
from deferrable.aio.backend import InMemoryBackendFactory

JOBS, ROUNDS = 5_000, 7
MOST_US = 15.0
"""What metrics, and what traces, may cost a job."""


async def nothing() -> None:
    pass


def plain() -> None:
    pass


def none(instance: Deferrable) -> None:
    pass


def prometheus(instance: Deferrable) -> None:
    from prometheus_client import CollectorRegistry

    from deferrable.contrib.prometheus import instrument

    instrument(instance, registry=CollectorRegistry())


def opentelemetry(instance: Deferrable) -> None:
    """With the SDK, and exporters that drop everything."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from deferrable.contrib.opentelemetry import instrument

    provider = TracerProvider()
    provider.add_span_processor(SpanProcessor())
    instrument(instance, tracer_provider=provider, meter_provider=MeterProvider())


def sampled_out(instance: Deferrable) -> None:
    """With the SDK, and a sampler that takes none of the traces."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    from deferrable.contrib.opentelemetry import instrument

    provider = TracerProvider(sampler=ALWAYS_OFF)
    instrument(instance, tracer_provider=provider, meter_provider=MeterProvider())


def structlog(instance: Deferrable) -> None:
    from deferrable.contrib.structlog import instrument

    instrument(instance)


def correlation(instance: Deferrable) -> None:
    from deferrable.contrib.correlation import CorrelationId

    instance.register_metadata_producer_consumer(CorrelationId())


SETUPS: dict[str, Callable[[Deferrable], None]] = {
    "none, again": none,
    "Prometheus": prometheus,
    "OpenTelemetry": opentelemetry,
    "OpenTelemetry, nothing sampled": sampled_out,
    "structlog": structlog,
    "correlation id": correlation,
}


async def cpu_us(set_up: Callable[[Deferrable], None], function: Callable[[], object]) -> float:
    """CPU a job in µs, of this process: its ``later_async`` and its run in a worker."""
    instance = Deferrable(InMemoryBackendFactory().create_backend_for_group("observed"))
    set_up(instance)
    job = instance.deferrable(name="job")(function)
    gc.collect()
    start = time.process_time()
    for _ in range(JOBS):
        await job.later_async()
    await instance.worker().run(until_empty=True)
    return (time.process_time() - start) / JOBS * 1e6


def sdk_alone_us() -> float:
    """What OpenTelemetry's SDK costs for the spans and metrics of one job, by hand."""
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Link, SpanKind

    provider = TracerProvider()
    provider.add_span_processor(SpanProcessor())
    tracer, meter = provider.get_tracer("bench"), MeterProvider().get_meter("bench")
    histograms = [meter.create_histogram(name) for name in ("a", "b")]
    counters = [meter.create_counter(name) for name in ("c", "d")]
    common = {f"messaging.attribute.{number}": "a value of it" for number in range(5)}

    def span(name: str, **options: object) -> trace.Span:
        opened = tracer.start_span(name, attributes=common, **options)  # type: ignore[arg-type]
        token = attach(trace.set_span_in_context(opened))
        opened.set_attribute("messaging.message.id", "some id")
        opened.set_attribute("deferrable.one.more", 1)
        detach(token)
        return opened

    start = time.process_time()
    for _ in range(JOBS):
        send, carrier = span("send", kind=SpanKind.PRODUCER), {}
        propagate.inject(carrier, trace.set_span_in_context(send))
        send.end()
        remote = trace.get_current_span(propagate.extract(carrier, Context()))
        links = [Link(remote.get_span_context())]
        span("process", kind=SpanKind.CONSUMER, context=Context(), links=links).end()
        for histogram in histograms:
            histogram.record(0.001, common)
        for counter in counters:
            counter.add(1, common)
    return (time.process_time() - start) / JOBS * 1e6


SDK_ALONE = "of OpenTelemetry, its SDK alone"


def run_once(name: str, jobs: int) -> None:
    """Run so many async jobs once, in a process whose instructions are counted."""
    global JOBS
    JOBS = jobs
    if name == SDK_ALONE:
        sdk_alone_us()
    else:
        asyncio.run(cpu_us(SETUPS[name], nothing))


def count_instructions(name: str, jobs: int) -> int:
    """How many instructions a process with so many async jobs takes, its start included."""
    counting = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command = [sys.executable, __file__, "--once", name, str(jobs)]
    env = {"PYTHONHASHSEED": "0"}
    subprocess.run(command, env=env, check=True)  # it compiles what is imported
    ended = subprocess.run(
        [*counting, *command], env=env, check=True, capture_output=True, text=True
    )
    found = re.search(r"Collected : (\d+)", ended.stderr)
    assert found is not None, ended.stderr
    return int(found[1])


def main_of_instructions() -> None:
    few, many = 1_000, 5_000  # their difference leaves out the start of the process
    base = 0
    for name in (*SETUPS, SDK_ALONE):
        counts = [count_instructions(name, jobs) for jobs in (few, many)]
        each = (counts[1] - counts[0]) // (many - few)
        if not base:
            base = each
            print(f"{'none':34}{each:>12,} instructions a job")
        else:
            more = each if name == SDK_ALONE else each - base
            print(f"{name:34}{more:>12,} more, {more / base:.2f} of a job", flush=True)


def main(jobs: int = JOBS, rounds: int = ROUNDS) -> None:
    global JOBS
    JOBS = jobs
    kinds: dict[str, Callable[[], object]] = {"async": nothing, "plain": plain}
    print(f"{'':34}" + "".join(f"{kind + ' job, µs more':>22}" for kind in kinds))
    bases: dict[str, list[float]] = {kind: [] for kind in kinds}
    for name, set_up in SETUPS.items():
        cells = []
        for kind, function in kinds.items():
            differences = []
            for _ in range(rounds):
                base = asyncio.run(cpu_us(none, function))
                bases[kind].append(base)
                differences.append(asyncio.run(cpu_us(set_up, function)) - base)
            low, high = min(differences), max(differences)
            cells.append(f"{statistics.median(differences):.1f} ({low:.1f} to {high:.1f})")
        print(f"{name:34}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    shown = ", ".join(f"{kind} {statistics.median(each):.1f}" for kind, each in bases.items())
    print(f"none: {shown} µs")
    alone = statistics.median(sdk_alone_us() for _ in range(rounds))
    print(f"{SDK_ALONE}: {alone:.1f} µs")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--instructions"]:
            main_of_instructions()
        case ["--once", name, jobs]:
            run_once(name, int(jobs))
        case numbers:
            main(*map(int, numbers))
