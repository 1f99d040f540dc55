"""Metrics for Prometheus: what is counted for each ending, and that a scrape can be read."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from faces import Face, How, Kind, MakeFace, as_kind, run
from processes import run_program
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_families,
)
from prometheus_client.parser import text_string_to_metric_families

from deferrable import Retry
from deferrable._extras import install_command
from deferrable.aio import InMemoryDebounceStore
from deferrable.contrib._job_counts import JobCounts, Notes
from deferrable.contrib._job_metrics import DURATION_BUCKETS, LATENCY_BUCKETS
from deferrable.contrib.prometheus import PrometheusMiddleware, instrument, scrape
from deferrable.errors import BackendError

pytestmark = pytest.mark.anyio


class Scrapes:
    """The metrics of a test's own registry."""

    def __init__(self, face: Face) -> None:
        self.registry = CollectorRegistry()
        self.middleware = instrument(face.instance, registry=self.registry)

    def samples(self) -> dict[tuple[str, ...], float]:
        text, _ = scrape({}, self.registry)
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    def of(self, name: str, *labels: str) -> float | None:
        return self.samples().get((f"deferrable_{name}", *labels))

    def attempts(self) -> dict[tuple[str, ...], float]:
        return {
            key[1:]: value
            for key, value in self.samples().items()
            if key[0] == "deferrable_attempts_total"
        }


def fail() -> None:
    raise ValueError("no")


def retry() -> None:
    raise Retry(after_seconds=5)


@pytest.mark.parametrize(
    ("work", "options", "status"),
    [
        (lambda: 1, {}, "completed"),
        (fail, {}, "errored"),
        (fail, {"error_classes": [ValueError]}, "retried"),
        (retry, {}, "retried"),
    ],
)
async def test_an_attempt_is_counted_once_by_how_it_ended(
    face: Face, kind: Kind, how: How, work: Callable[[], Any], options: Any, status: str
) -> None:
    scrapes, job = Scrapes(face), face.job(as_kind(kind, work), name="work", **options)
    await face.later(job)
    await run(face, how)

    assert scrapes.of("pushed_total", "work") == 1
    assert scrapes.attempts() == {("work", status): 1}
    assert scrapes.of("job_duration_seconds_count", "work") == 1
    assert scrapes.of("queue_latency_seconds_count", "work") == 1
    # A gauge that some endings forget never goes down again.
    assert scrapes.of("running", "work") == 0


async def test_a_running_job_is_seen(face: Face, kind: Kind, how: How) -> None:
    scrapes, seen = Scrapes(face), []
    job = face.job(as_kind(kind, lambda: seen.append(scrapes.of("running", "work"))), name="work")
    await face.later(job)
    await run(face, how)

    assert seen == [1]


async def test_latency_and_duration_are_in_seconds(face: Face, kind: Kind, how: How) -> None:
    scrapes = Scrapes(face)
    job = face.job(as_kind(kind, lambda: face.clock.advance(3)), name="work", delay_seconds=10)
    await face.later(job)
    face.clock.advance(17)
    await run(face, how)

    assert scrapes.of("queue_latency_seconds_sum", "work") == pytest.approx(7)
    assert scrapes.of("job_duration_seconds_sum", "work") == pytest.approx(3)


async def test_latency_of_a_retry_counts_from_the_end_of_its_wait(face: Face) -> None:
    scrapes = Scrapes(face)
    await face.later(face.job(retry, name="work"))
    await face.run()
    face.clock.advance(25)
    await face.run()

    assert scrapes.of("queue_latency_seconds_sum", "work") == pytest.approx(20)


async def test_a_lost_lease_is_counted(face: Face, kind: Kind) -> None:
    scrapes = Scrapes(face)
    job = face.job(as_kind(kind, lambda: face.clock.advance(31)), name="work")
    await face.later(job)
    await face.run()

    assert scrapes.of("lease_lost_total", "work") == 1
    assert scrapes.attempts() == {("work", "lost"): 1}
    assert scrapes.of("running", "work") == 0


async def test_skipped_calls_and_batches_are_counted(make_face: MakeFace) -> None:
    face = make_face(debounce_store=InMemoryDebounceStore())
    scrapes, job = Scrapes(face), face.job(fail, name="work", debounce_seconds=60)
    for _ in range(4):
        await face.later(job)
    await face.later_many(face.job(fail, name="other"), [()] * 5)

    assert scrapes.of("pushed_total", "work") == 2
    assert scrapes.of("debounced_total", "work") == 2
    assert scrapes.of("pushed_total", "other") == 5


async def test_of_a_batch_that_fails_in_part_the_pushed_ones_are_counted(face: Face) -> None:
    scrapes, job = Scrapes(face), face.job(fail, name="work")
    face.faults.fail_before("push")
    with pytest.raises(BackendError) as raised:
        await face.later_many(job, [()] * 3)

    pushed = sum(each is not None for each in raised.value.receipts or ())
    assert (scrapes.of("pushed_total", "work") or 0) == pushed


async def test_no_label_comes_from_an_item(face: Face, how: How) -> None:
    scrapes = Scrapes(face)
    evil = ['x"} 1\nmalicious 2', "app:job-" + "9" * 50, "\x1b[31m"]
    job = face.job(fail, name="work")
    await face.later(job)
    item = await face.take()
    assert item is not None
    await face.broker.queue.push({"id": "1", "serializer": "unknown"})
    await run(face, how)
    for name in evil:
        await face.broker.queue.push({**item, "name": name, "function": name, "job": name})
        await run(face, how)

    labels = {value for key in scrapes.samples() for value in key[1:]}
    assert not labels & set(evil)
    assert labels <= {"work", "(unknown)", "errored", *bucket_labels()}


def bucket_labels() -> set[str]:
    return {str(float(each)) for each in DURATION_BUCKETS + LATENCY_BUCKETS} | {"+Inf"}


async def test_the_number_of_jobs_is_bounded(face: Face) -> None:
    scrapes = Scrapes(face)
    for number in range(300):
        await face.later(face.job(fail, name=f"job-{number}"))

    names = [key[1] for key in scrapes.samples() if key[0] == "deferrable_pushed_total"]
    assert len(names) == 201
    assert scrapes.of("pushed_total", "(other)") == 100


async def test_instances_of_one_process_share_a_registry(make_face: MakeFace) -> None:
    one, other = make_face(), make_face()
    first = Scrapes(one)
    assert instrument(one.instance, registry=first.registry) is first.middleware
    instrument(other.instance, registry=first.registry)
    for face in (one, other):
        await face.later(face.job(fail, name="work"))

    assert first.of("pushed_total", "work") == 2
    assert len(one.instance.middleware) == 1


async def test_the_instance_of_either_api_is_the_same(face: Face) -> None:
    registry = CollectorRegistry()
    core = getattr(face.instance, "_core", face.instance)
    middleware = instrument(face.instance, registry=registry)

    assert isinstance(middleware, PrometheusMiddleware)
    assert instrument(core, registry=registry) is middleware


async def test_a_scrape_is_read_by_both_parsers_of_the_library(face: Face) -> None:
    scrapes = Scrapes(face)
    scrapes.middleware.set_slots(100)
    await face.later(face.job(fail, name="app:jobs"))
    await face.run()
    plain, plain_type = scrape({}, scrapes.registry)
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    text, content_type = scrape(accept, scrapes.registry)

    names = {family.name for family in open_families(text.decode())}
    assert names >= {"deferrable_pushed", "deferrable_attempts", "deferrable_slots"}
    assert "openmetrics" in content_type
    assert plain_type.startswith("text/plain")
    plain_names = {family.name for family in text_string_to_metric_families(plain.decode())}
    assert names == {each for each in plain_names if not each.endswith("_created")}


def notes() -> Notes[JobCounts]:
    return Notes(lambda name: JobCounts((1.0, 5.0), (1.0,)))


def read(of: Notes[JobCounts]) -> dict[str, JobCounts]:
    seen: dict[str, JobCounts] = {}
    of.read(seen.update)
    return seen


def test_counts_are_exact_while_threads_count_and_others_read() -> None:
    made, count = notes(), 20_000

    def work() -> None:
        job = made.of("work")
        for _ in range(count):
            made.add(job.push, 1)
            made.add(job.start, 0.5)
            made.add(job.end, 2.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        read(made)
    for thread in threads:
        thread.join()

    work_counts = read(made)["work"]
    assert (work_counts.pushed, work_counts.running) == (4 * count, 0)
    assert work_counts.duration.cumulative() == [
        ("1.0", 0),
        ("5.0", 4 * count),
        ("+Inf", 4 * count),
    ]
    assert work_counts.duration.total == 2.0 * 4 * count


def test_what_nobody_reads_takes_no_memory_without_end() -> None:
    made = notes()
    job = made.of("work")
    for _ in range(100_000):
        made.add(job.push, 1)

    assert len(made._pending) <= 5_000
    assert read(made)["work"].pushed == 100_000


@pytest.mark.parametrize("value", [0.0, 1.0, 1.5, 5.0, 5.1, -3.0, float("inf")])
def test_buckets_are_those_of_the_library(value: float) -> None:
    registry, made = CollectorRegistry(), notes()
    histogram = Histogram("theirs", "theirs", buckets=(1.0, 5.0), registry=registry)
    histogram.observe(value)
    made.add(made.of("work").end, value)

    theirs = [
        (sample.labels["le"], sample.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "theirs_bucket"
    ]
    assert read(made)["work"].duration.cumulative() == theirs


def test_a_forked_process_counts_what_it_does_itself() -> None:
    lines = run_program(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and a fork
        from deferrable import Deferrable
        from deferrable.backend import InMemoryBackendFactory
        from deferrable.contrib.prometheus import instrument, scrape
        shop = Deferrable(InMemoryBackendFactory().create_backend_for_group("shop"))
        middleware = instrument(shop)
        job = shop.deferrable(name="job")(lambda: None)
        job.later()
        middleware._jobs.notes._lock.acquire()  # as if a thread of the parent were counting
        if os.fork() == 0:
            job.later()
            job.later()
        else:
            os.wait()
            middleware._jobs.notes._lock.release()
        text = scrape({})[0].decode()
        lines = [each for each in text.splitlines() if each.startswith("deferrable_pushed_total{")]
        print(*lines, flush=True)
        os._exit(0)  # the child has no loop to close
        """
    )

    assert lines == [
        'deferrable_pushed_total{job="job"} 2.0',
        'deferrable_pushed_total{job="job"} 1.0',
    ]


def test_a_registry_of_which_only_some_metrics_are_asked_for_gives_these(face: Face) -> None:
    scrapes = Scrapes(face)
    scrapes.middleware.set_slots(3)

    asked = scrapes.registry.restricted_registry(["deferrable_slots"])

    assert [sample.value for family in asked.collect() for sample in family.samples] == [3]
    assert scrapes.registry.get_sample_value("deferrable_slots") == 3


def test_processes_of_a_web_server_share_their_counts(tmp_path: Any) -> None:
    """With PROMETHEUS_MULTIPROC_DIR, as gunicorn's users set it."""
    code = """
    from prometheus_client import CollectorRegistry, REGISTRY
    from prometheus_client.multiprocess import MultiProcessCollector
    from deferrable import Deferrable
    from deferrable.backend import InMemoryBackendFactory
    from deferrable.contrib.prometheus import instrument, scrape
    shop = Deferrable(InMemoryBackendFactory().create_backend_for_group("shop"))
    instrument(shop)
    job = shop.deferrable(name="job")(lambda: None)
    job.later(); shop.run_once()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    text = scrape({}, registry)[0].decode()
    print(*[line for line in text.splitlines() if line.startswith("deferrable_attempts_total")])
    """
    lines = []
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    try:
        for _ in range(2):
            lines += run_program(code)
    finally:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]

    assert [line.rpartition(" ")[2] for line in lines] == ["1.0", "2.0"]


def test_jobs_of_a_killed_process_do_not_run_for_ever(tmp_path: Any) -> None:
    """In a container, the next process has the same number, and finds the same file."""
    code = """
    import os, sys
    from prometheus_client import CollectorRegistry, values
    from prometheus_client.multiprocess import MultiProcessCollector
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: 7)
    from deferrable import Deferrable
    from deferrable.backend import InMemoryBackendFactory
    from deferrable.contrib.prometheus import instrument, scrape
    shop = Deferrable(InMemoryBackendFactory().create_backend_for_group("shop"))
    instrument(shop)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    @shop.deferrable(name="job")
    def job():
        lines = scrape({}, registry)[0].decode().splitlines()
        print(*[each for each in lines if each.startswith("deferrable_running")], flush=True)
        os._exit(0)
    job.later(); shop.run_once()
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    try:
        lines = [*run_program(code), *run_program(code)]
    finally:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]

    assert lines == ['deferrable_running{job="job"} 1.0'] * 2


def test_a_missing_extra_is_named() -> None:
    (message,) = run_program(
        """
        import sys
        sys.modules["prometheus_client"] = None
        try:
            import deferrable.contrib.prometheus
        except ImportError as error:
            print(error)
        """
    )

    assert install_command("prometheus") in message
    assert json.dumps(message)
