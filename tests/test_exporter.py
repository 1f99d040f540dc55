"""``deferrable exporter``: gauges of queues, numbers for autoscalers, files for monitoring."""

import asyncio
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from cli_place import STATS, Place, ask
from commands import Command, call_command, run_command
from faces import Face
from processes import ROOT
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from redis_server import free_port, unique_group

from deferrable._extras import install_command
from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory
from deferrable.aio.backend import InMemoryBackendFactory as MemoryFactory
from deferrable.cli.loading import Named
from deferrable.cli.queue_watch import QueueWatch
from deferrable.contrib._queue_metrics import registry_of
from deferrable.contrib._queues import LastMinute, QueueReading, WorkerCounts, read_queue
from deferrable.contrib._worker_pages import WorkerSum, counts_in
from deferrable.contrib.prometheus import instrument, scrape
from deferrable.errors import BackendError
from deferrable.item import queue_name

MONITORING = ROOT / "examples" / "monitoring"


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Any:
    made = Place(redis_url, tmp_path)
    yield made
    made.close()


# Readings.


@pytest.mark.anyio
async def test_a_reading_has_every_state_and_the_oldest_age() -> None:
    face = Face("awaiting")
    job = face.job(lambda: 1, name="job")
    for _ in range(3):
        await face.later(job)
    await face.later(job.options(delay_seconds=60))
    await face.broker.error_queue.push({})
    await face.broker.queue.pop()
    face.clock.advance(7)

    reading = await read_queue(face.instance)

    assert reading.items == {"available": 2, "in_flight": 1, "delayed": 1, "errors": 1}
    assert (reading.name, reading.size, reading.oldest_age_seconds) == ("deferrable", 4, 7)


@pytest.mark.anyio
async def test_the_oldest_age_of_an_empty_queue_is_zero() -> None:
    reading = await read_queue(Face("awaiting").instance)

    assert (reading.size, reading.oldest_age_seconds, reading.error) == (0, 0, None)


@pytest.mark.anyio
async def test_a_reading_says_whether_the_queue_is_paused_and_why() -> None:
    face = Face("awaiting")
    before = await read_queue(face.instance)
    await face.instance.pause(reason="deploy")
    during = await read_queue(face.instance)

    assert (before.is_paused, before.pause_reason) == (False, "")
    assert (during.is_paused, during.pause_reason) == (True, "deploy")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "shown"),
    [(None, (False, "")), (BackendError("denied"), (True, "its reason cannot be read"))],
)
async def test_counts_are_known_where_the_pause_is_not(
    answer: BackendError | None, shown: tuple[bool, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    face = Face("awaiting")
    await face.instance.pause()

    async def find_pause() -> None:
        if answer is not None:
            raise answer

    monkeypatch.setattr(face.instance.backend.queue, "find_pause", find_pause)
    reading = await read_queue(face.instance)

    assert (reading.error, reading.items["available"]) == (None, 0)
    assert (reading.is_paused, reading.pause_reason) == shown


@pytest.mark.anyio
async def test_a_broker_that_does_not_answer_is_an_error_and_no_zero() -> None:
    face = Face("awaiting")
    face.faults.fail_before("stats")
    reading = await read_queue(face.instance)

    assert reading.error is not None
    assert (reading.items, reading.size) == ({}, None)


def reading(time: float, size: int | None) -> QueueReading:
    return QueueReading("q", time, {} if size is None else {"available": size})


def test_rates_are_of_the_last_minute() -> None:
    history = LastMinute(window_seconds=60)
    history.add([reading(0, 1000)], WorkerCounts(0, 10, 1))
    for second, size, ended in ((40, 100, 50), (70, 130, 80), (100, 190, 110)):
        history.add([reading(second, size)], WorkerCounts(ended, 10, 1))

    assert history.change_per_second == 1.5
    assert history.completions_per_second == 1
    assert history.arrivals_per_second == 2.5


def test_what_is_not_known_is_none() -> None:
    history = LastMinute()
    before = history.change_per_second
    history.add([reading(0, 5)], None)
    history.add([reading(10, 15)], None)

    assert before is None
    assert history.change_per_second == 1
    assert (history.completions_per_second, history.arrivals_per_second) == (None, None)


def test_a_worker_that_restarts_or_comes_late_never_makes_the_sum_jump() -> None:
    total = WorkerSum()
    ended = [
        total.add({"a": WorkerCounts(1000, 4, 1)}).ended,
        total.add({"a": WorkerCounts(1010, 4, 1), "b": WorkerCounts(500, 4, 1)}).ended,
        total.add({"a": WorkerCounts(3, 4, 1), "b": WorkerCounts(505, 4, 2)}).ended,
    ]

    assert ended == [0, 10, 18]
    assert total.add({"b": WorkerCounts(505, 4, 2)}) == WorkerCounts(18, 4, 2)


def test_what_a_worker_ends_while_it_cannot_be_asked_counts_afterwards() -> None:
    total = WorkerSum()
    total.add({"a": WorkerCounts(1000, 4, 1), "b": WorkerCounts(0, 4, 1)})
    total.add({"b": WorkerCounts(0, 4, 1)})

    assert total.add({"a": WorkerCounts(1030, 4, 1), "b": WorkerCounts(0, 4, 1)}).ended == 30
    for _ in range(100):
        total.add({"b": WorkerCounts(0, 4, 1)})
    assert total.add({"a": WorkerCounts(9000, 4, 1)}).ended == 30  # it may be another one


@pytest.mark.anyio
async def test_the_page_of_a_worker_is_understood() -> None:
    face, registry = Face("awaiting"), CollectorRegistry()
    instrument(face.instance, registry=registry).set_slots(7)
    await face.later(face.job(lambda: 1, name="job"))
    await face.run()

    assert counts_in(scrape({}, registry)[0].decode()) == WorkerCounts(1, 7, 0)


NO_PAGES = {
    "another protocol": b"-ERR unknown command\r\n",
    "a status that is none": b"HTTP/1.1 abc\r\n\r\n",
    "a part of an answer": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\ndeferrable_slots"
    ),
    "bytes": b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe\x00",
    "a page of something else": b"HTTP/1.1 200 OK\r\n\r\n<html>{x}</html>\n",
    "nothing": b"",
}


@pytest.mark.anyio
@pytest.mark.parametrize("sent", NO_PAGES.values(), ids=NO_PAGES)
async def test_an_exporter_goes_on_whatever_answers_in_the_place_of_a_worker(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
        named = Named("app:shop", Face("awaiting").instance)
        watch = QueueWatch([named], [address])

        await watch.read()
        await watch.read()

    assert watch.numbers()["backlog"] == 0
    assert watch.numbers()["slots"] is None
    (line,) = caplog.messages
    assert line.startswith(f"{address} cannot be read, the exporter goes on: ")


@pytest.mark.anyio
async def test_a_sample_of_others_by_the_same_name_counts_nothing() -> None:
    assert counts_in('deferrable_attempts_total{job="app:work"} 3\n').ended == 0


def test_gauges_leave_out_what_is_not_known() -> None:
    readings = [
        QueueReading("a", 0, {"available": 2, "errors": 1}, 3.5, 9, {"used_bytes": 7}),
        QueueReading("b", 0, error="gone"),
        QueueReading("c", 0, is_paused=True),
        QueueReading("d", 0, is_paused=False),
    ]
    text = scrape({}, registry_of(lambda: readings))[0].decode()
    samples = {
        (each.name, *each.labels.values()): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }

    assert samples == {
        ("deferrable_queue_up", "a"): 1,
        ("deferrable_queue_up", "b"): 0,
        ("deferrable_queue_up", "c"): 1,
        ("deferrable_queue_up", "d"): 1,
        ("deferrable_queue_paused", "c"): 1,
        ("deferrable_queue_paused", "d"): 0,
        ("deferrable_items", "a", "available"): 2,
        ("deferrable_items", "a", "errors"): 1,
        ("deferrable_oldest_age_seconds", "a"): 3.5,
        ("deferrable_broker_requests_total", "a"): 9,
        ("deferrable_redis_memory_used_bytes", "a"): 7,
    }


# The command.


def page(url: str) -> str:
    import urllib.request

    with urllib.request.urlopen(url, timeout=30) as response:
        text: bytes = response.read()
    return text.decode()


@contextmanager
def worker_pages(pages: Iterator[str]) -> Iterator[str]:
    """The URL of metrics that show the next page at each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(next(pages).encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def growing_pages() -> Iterator[str]:
    ended = 0
    while True:
        ended += 1000
        yield (
            f'deferrable_attempts_total{{job="j",status="completed"}} {ended}\n'
            "deferrable_slots 100\n"
            'deferrable_running{job="j"} 3\n'
        )


def test_the_exporter_serves_gauges_and_numbers_and_stops(place: Place) -> None:
    port = free_port()
    for _ in range(3):
        place.defer("count", "word")
    with worker_pages(growing_pages()) as url:
        options = ["--port", str(port), "--interval", "0.2", "--worker", url]
        with Command("exporter", STATS, *options, variables=place.variables) as command:
            command.wait_for("exporter running")
            at = f"http://127.0.0.1:{port}"
            command.wait_until(lambda: ask(f"{at}/ready")[0] == 200, "it has read")
            gauges, (live, answer) = page(f"{at}/metrics"), ask(f"{at}/live")

            def rate() -> Any:
                return ask(f"{at}/autoscale.json")[1]["completions_per_second"]

            command.wait_until(rate, "there is a rate")
            status, numbers = ask(f"{at}/autoscale.json")
            command.send(signal.SIGTERM)
            assert command.end() == 0
    name = f"deferrable_{place.group}"
    assert f'deferrable_items{{queue="{name}",state="available"}} 3.0' in gauges
    assert f'deferrable_redis_memory_used_bytes{{queue="{name}"}}' in gauges
    assert "deferrable_attempts_total" not in gauges
    assert (live, status) == (200, 200)
    assert (answer.keys(), answer["status"]) == ({"status", "held_seconds"}, "live")
    assert f"serves /metrics, /autoscale.json, /live, /ready on {at}\n" in command.text
    assert (numbers["backlog"], numbers["slots"], numbers["running"]) == (3, 100, 3)
    assert numbers["oldest_age_seconds"] >= 0
    assert numbers["completions_per_second"] > 0
    assert numbers["queues"][name]["available"] == 3
    assert numbers["queues"][name]["is_paused"] is False


def test_an_autoscaler_gets_no_numbers_while_the_broker_is_away() -> None:
    port = free_port()
    variables = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "GROUP": "gone"}
    options = ["--port", str(port), "--interval", "0.2"]
    with Command("exporter", STATS, *options, variables=variables) as command:
        command.wait_for("cannot be read, the exporter goes on")
        at = f"http://127.0.0.1:{port}"
        status, answer = ask(f"{at}/autoscale.json")

        assert (status, ask(f"{at}/live")[0], ask(f"{at}/ready")[0]) == (503, 200, 503)
        assert "cannot be reached" in answer["error"]
        assert 'deferrable_queue_up{queue="deferrable_gone"} 0.0' in page(f"{at}/metrics")
        command.send(signal.SIGTERM)
        assert command.end() == 0
    assert command.text.count("cannot be read") == 1


def test_each_worker_process_serves_its_own_metrics(place: Place) -> None:
    first = free_port()
    options = ["--metrics", "--health-port", str(first), "-c", "7"]
    place.defer("count", "word")
    place.defer("divide", 1, 0)
    with Command("worker", STATS, *options, variables=place.variables) as command:
        command.wait_for("cli_app.jobs:count completed")
        command.wait_for("failed for good")
        at = f"http://127.0.0.1:{first}"
        ended = 'deferrable_attempts_total{job="cli_app.jobs:divide",status="errored"} 1.0'
        command.wait_until(lambda: ended in page(f"{at}/metrics"), "it is counted")
        text = page(f"{at}/metrics")
        assert ask(f"{at}/live")[0] == 200
        command.send(signal.SIGTERM)
        assert command.end() == 0
    assert 'deferrable_attempts_total{job="cli_app.jobs:count",status="completed"} 1.0' in text
    assert "deferrable_slots 7.0" in text
    assert "deferrable_items" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["worker", STATS, "--metrics"], "give --health-port"),
        (["exporter", STATS, "--worker", "https://x/metrics"], "--worker takes an http:// URL"),
        (["exporter", STATS, "--worker", "worker:8081"], "--worker takes an http:// URL"),
    ],
)
def test_wrong_options_are_one_line(arguments: list[str], message: str) -> None:
    variables = {"REDIS_URL": "redis://127.0.0.1:1/0", "GROUP": "x"}
    ended = call_command(*arguments, variables=variables)

    assert ended.returncode == 2
    assert message in " ".join(ended.stderr.split())


def test_queues_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(
        "from deferrable.aio import Deferrable\n"
        "from deferrable.aio.backend import SQLiteBackendFactory as Factory\n"
        "old, new = (\n"
        "    Deferrable(Factory(file).create_backend_for_group('shop'))\n"
        "    for file in ('old.db', 'new.db')\n"
        ")\n"
    )

    done = run_command("exporter", "two:old", "two:new", variables={}, folder=tmp_path)

    assert done.returncode == 1
    assert done.stderr == (
        "Error: the queues of two:old and two:new are both called deferrable_shop, so their "
        "numbers would be mixed up; name one of them, and run another exporter with another "
        "--port for the other\n"
    )


def test_a_missing_extra_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('no', name=__name__)\n")
    variables = {
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "GROUP": "x",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    ended = run_command("exporter", STATS, variables=variables)

    assert ended.returncode == 1
    assert install_command("prometheus") in ended.stderr


# The files.


def known_names() -> set[str]:
    """The name of every metric and series that this library has."""
    registry = CollectorRegistry()
    instrument(Face("awaiting").instance, registry=registry)
    families = [*registry.collect(), *registry_of(list).collect()]
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {
        f"{family.name}{suffix}"
        for family in families
        for suffix in suffixes.get(family.type, [""])
    }


def expressions() -> list[str]:
    board = json.loads((MONITORING / "grafana.json").read_text())
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return found + [rule["expr"] for group in rules for rule in group["rules"]]


def test_every_metric_of_the_dashboard_and_the_alerts_exists() -> None:
    names = {name for each in expressions() for name in re.findall(r"\bdeferrable_\w+", each)}

    assert len(names) >= 12
    assert names <= known_names()


def test_every_metric_is_in_the_dashboard() -> None:
    text = " ".join(expressions())
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known_names()}

    assert not [name for name in families if name not in text]


def test_the_labels_of_the_expressions_exist() -> None:
    grouped = {
        label.strip()
        for each in expressions()
        for labels in re.findall(r"by \((.*?)\)", each)
        for label in labels.split(",")
    }

    assert grouped <= {"queue", "state", "job", "status", "le"}


def test_no_alert_lacks_what_to_do() -> None:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]

    assert len(group["rules"]) == 7
    for rule in group["rules"]:
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_prometheus_keeps_the_label_job_of_the_workers() -> None:
    """It would be renamed otherwise, as Prometheus has a label of the same name."""
    settings = yaml.safe_load((MONITORING / "prometheus.yml").read_text())

    assert settings["scrape_configs"][0]["honor_labels"] is True


# KEDA.


def scalers() -> list[dict[str, Any]]:
    """The triggers of the examples in the documentation."""
    text = (ROOT / "docs" / "observability.md").read_text()
    found = []
    for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        scaled = yaml.safe_load(block)
        assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
        assert scaled["spec"]["scaleTargetRef"]["name"] == "shop-worker"
        found += scaled["spec"]["triggers"]
    return found


def scaler(kind: str) -> dict[str, Any]:
    settings: dict[str, Any] = next(each for each in scalers() if each["type"] == kind)["metadata"]
    return settings


def test_there_is_an_example_for_each_kind_of_scaler() -> None:
    assert {each["type"] for each in scalers()} == {"metrics-api", "redis", "aws-sqs-queue"}
    for each in scalers():
        assert all(isinstance(value, str) for value in each["metadata"].values())


@pytest.mark.anyio
async def test_the_numbers_that_keda_asks_for_are_there() -> None:
    shop = Deferrable(MemoryFactory().create_backend_for_group("shop"))
    watch = QueueWatch([Named("app:shop", shop)])
    await watch.read()
    numbers: Any = watch.numbers()
    for each in scalers():
        if each["type"] == "metrics-api":
            value = numbers
            for part in each["metadata"]["valueLocation"].split("."):
                value = value[part]
            assert isinstance(value, int | float)


@pytest.mark.anyio
async def test_the_list_that_keda_measures_holds_the_available_items(redis_url: str) -> None:
    group = unique_group("shop")
    backend = DocketsBackendFactory(redis_url).create_backend_for_group(group)
    with redis.Redis.from_url(redis_url) as client:
        async with backend:
            await backend.queue.push({"id": "1"})
            await backend.queue.push({"id": "2"})
        name = scaler("redis")["listName"].replace("shop", group)

        assert client.llen(name) == 2


def test_the_queue_that_keda_measures_is_the_group_s() -> None:
    assert scaler("aws-sqs-queue")["queueURL"].rpartition("/")[2] == queue_name("shop")
