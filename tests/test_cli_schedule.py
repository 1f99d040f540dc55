"""``deferrable schedule``: what it shows, and the call that it pushes."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from commands import call_command
from redis_server import unique_group

from deferrable import Deferrable
from deferrable.backend import DocketsBackendFactory

SHOP = "cli_app.schedules:shop"
TIME = re.compile(r"\w{3} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}")


@pytest.fixture
def shop(redis_url: str) -> Iterator[Deferrable]:
    """An instance with the queue that the commands use."""
    backend = DocketsBackendFactory(redis_url).create_backend_for_group(unique_group("cli-"))
    with Deferrable(backend) as made:
        yield made
        made.backend.queue.flush()


@pytest.fixture
def call(shop: Deferrable, redis_url: str) -> Any:
    """Runs ``deferrable schedule``."""

    def run(*arguments: str) -> Any:
        variables = {"REDIS_URL": redis_url, "GROUP": str(shop.backend.group)}
        return call_command("schedule", *arguments, variables=variables)

    return run


def read(done: Any) -> Any:
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_list_shows_each_schedule_with_its_next_time_in_its_zone(call: Any) -> None:
    shown = call("list", SHOP).stdout
    hourly, daily = read(call("list", SHOP, "--json"))

    assert "report-daily" in shown
    assert "60 s" in shown
    assert len(TIME.findall(shown)) == 2
    assert daily["timetable"] == "0 6 * * * Europe/Berlin"
    assert daily["job"] == "cli_app.schedules:report"
    next_time = datetime.fromisoformat(daily["next"][0])
    assert next_time.hour == 6
    assert next_time.utcoffset() in (timedelta(hours=1), timedelta(hours=2))
    assert hourly["jitter_seconds"] == 60


def test_list_says_so_if_there_is_none(call: Any) -> None:
    assert "no schedules" in call("list", "cli_app.schedules:none").stdout


def test_next_shows_the_next_ticks_of_one_schedule_or_of_all_in_order(call: Any) -> None:
    of_one = call("next", SHOP, "report-d", "-n", "3").stdout.splitlines()
    of_all = call("next", SHOP, "-n", "30").stdout.splitlines()

    assert len(of_one) == 3
    assert all(line.endswith("report-daily") for line in of_one)
    assert len(of_all) == 30
    times = [datetime.strptime(line.split("  ")[0], "%a %Y-%m-%d %H:%M:%S %z") for line in of_all]
    assert times == sorted(times)
    assert sum(line.endswith("report-daily") for line in of_all) in (1, 2)
    (daily,) = read(call("next", SHOP, "report-daily", "-n", "4", "--json"))
    assert len(daily["next"]) == 4


def test_run_pushes_the_call_now(call: Any, shop: Deferrable) -> None:
    pushed = read(call("run", SHOP, "report-hourly", "--json"))
    said = call("run", SHOP, "report-daily").stdout

    _, first = shop.backend.queue.pop()
    _, second = shop.backend.queue.pop()
    assert first is not None
    assert second is not None
    assert (pushed["schedule"], pushed["id"]) == ("report-hourly", first["id"])
    assert said == f"report-daily: pushed as {second['id']}\n"
    assert "tick_time" not in first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", SHOP), "name the schedule"),
        (("run", SHOP, "weekly"), "no schedule is called 'weekly'"),
        (("next", SHOP, "report"), "'report' is the beginning of 2 names"),
    ],
)
def test_a_name_that_fits_no_schedule_or_several_is_wrong_usage(
    call: Any, arguments: tuple[str, ...], message: str
) -> None:
    done = call(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
