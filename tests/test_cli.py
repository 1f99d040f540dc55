"""``deferrable stats``, ``errors`` and ``jobs``, and what is said when something is wrong."""

import base64
import json
import os
import pickle
import pty
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from commands import TESTS, Command, call_command, environment
from processes import run_program
from redis_server import unique_group

from deferrable import Deferrable
from deferrable._extras import install_command
from deferrable.aio import Deferrable as AsyncDeferrable
from deferrable.aio.backend import InMemoryBackendFactory
from deferrable.aio.backend.memory import InMemoryQueue
from deferrable.aio.error_items import ErrorItem
from deferrable.backend import DocketsBackendFactory
from deferrable.cli.choosing import CHUNK, Choice, choose, each_chunk
from deferrable.cli.errors import _settle_each
from deferrable.errors import UnreadableItem
from deferrable.item import Item

STATS, MAILS = "cli_app.jobs:stats", "cli_app.jobs:mails"


class Shell:
    """Runs commands against its own group, whose queue `instance` fills."""

    def __init__(self, url: str) -> None:
        self.variables = {"REDIS_URL": url, "GROUP": unique_group("cli-")}
        backend = DocketsBackendFactory(url).create_backend_for_group(self.variables["GROUP"])
        self.instance = Deferrable(backend)
        self.divide = self.instance.deferrable(name="cli_app.jobs:divide")(_divide)

    def fail(self, *by: Any) -> list[str]:
        """Have a call fail for each of `by`; the items' ids."""
        ids = []
        for each in by:
            ids.append(self.divide.later(1, by=each).id or "")
            outcome = self.instance.run_once()
            assert outcome is not None
            assert outcome.status == "errored"
        return ids

    def run(self, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
        return call_command(*arguments, variables=self.variables, answer=answer)

    def read(self, *arguments: str) -> Any:
        """The JSON that a command prints, which must succeed and say nothing else."""
        done = self.run(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def counts(self) -> tuple[int, int]:
        """How many items are available, and how many in the error queue."""
        (counted,) = self.read("stats", STATS)
        return counted["available"], counted["errors"]


def _divide(number: int, by: int) -> float:
    return number / by


@pytest.fixture
def shell(redis_url: str) -> Iterator[Shell]:
    made = Shell(redis_url)
    yield made
    made.instance.close()


# Errors of the user who types.


@pytest.mark.parametrize(
    ("path", "code", "line"),
    [
        ("no_such_app:stats", 2, "there is no module 'no_such_app' for no_such_app:stats; run the"),
        ("cli_app.nothing:stats", 2, "there is no module 'cli_app.nothing'"),
        ("cli_app.jobs", 2, f"'cli_app.jobs' names a module only; write {STATS} or {MAILS}"),
        (
            "cli_app.jobs.stats",
            2,
            f"'cli_app.jobs.stats' has no colon before the name of the instance; write {STATS}",
        ),
        ("cli_app.jobs:other", 2, f"cli_app.jobs has no other; write {STATS} or {MAILS}"),
        (
            "cli_app.jobs:send",
            2,
            "cli_app.jobs:send is not an instance of Deferrable, but of Job; write",
        ),
        (
            "cli_app.empty:stats",
            2,
            "cli_app.empty has no stats; write the path of a module with an",
        ),
        (":stats", 2, "':stats' is not a path to an instance; write MODULE:NAME"),
        (
            "redis://:secret@localhost/0",
            2,
            "this command takes an instance, MODULE:NAME, and no URL (redis://...);",
        ),
        ("cli_app.jobs:", 2, "'cli_app.jobs:' is not a path to an instance; write MODULE:NAME"),
        (
            "cli_app.broken:stats",
            1,
            "importing cli_app.broken raised RuntimeError: no configuratio",
        ),
        (
            "cli_app.lacking:stats",
            1,
            "importing cli_app.lacking raised ModuleNotFoundError: No mod",
        ),
    ],
)
@pytest.mark.parametrize("command", [["worker"], ["stats"], ["jobs"], ["errors", "list"]])
def test_path_that_leads_to_no_instance_is_one_line_that_says_what_to_do(
    command: list[str], path: str, code: int, line: str
) -> None:
    variables = {"REDIS_URL": "redis://127.0.0.1:1", "GROUP": "x"}
    done = call_command(*command, path, variables=variables)

    assert done.returncode == code
    assert done.stdout == ""
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"Error: {line}")


@pytest.mark.parametrize("command", [["stats"], ["errors", "list"]])
def test_unreachable_broker_is_one_line_that_says_what_to_do(command: list[str]) -> None:
    done = call_command(*command, "cli_app.unreachable:stats", variables={})

    assert done.returncode == 1
    (told,) = done.stderr.splitlines()
    assert told.startswith("Error: cli_app.unreachable:stats: Redis at 127.0.0.1:")
    assert told.endswith("is it running, and is the address right?")
    assert told.count("cannot be reached") == 1


@pytest.mark.parametrize(
    ("path", "proposal"),
    [
        ("./app.py:q", "app:q"),
        ("app.py:q", "app:q"),
        ("shop/jobs.py:q", "shop.jobs:q"),
        ("./shop/__init__.py:q", "shop:q"),
        ("./shop/jobs.py", "shop.jobs:NAME"),
        ("../app.py:q", "app:q in the directory that holds it"),
    ],
)
@pytest.mark.parametrize("command", [["worker"], ["errors", "list"]])
def test_path_of_a_file_is_answered_with_the_name_of_its_module(
    command: list[str], path: str, proposal: str
) -> None:
    done = call_command(*command, path, variables={})

    file = path.partition(":")[0]
    assert done.returncode == 2
    assert done.stderr == f"Error: {file!r} names a file; write {proposal}\n"


def test_worker_of_an_instance_in_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "remembering.py").write_text(
        "from deferrable import Deferrable\n"
        "from deferrable.backend import InMemoryBackendFactory\n"
        "instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))\n"
    )
    done = call_command("worker", "remembering:instance", variables={}, folder=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("Error: remembering:instance keeps its items in memory (")
    assert "SQLiteBackendFactory, DocketsBackendFactory or SQSBackendFactory" in done.stderr


@pytest.mark.parametrize(("threads", "is_warned"), [("11", True), ("10", False)])
def test_more_threads_than_jobs_at_once_are_warned_of(threads: str, is_warned: bool) -> None:
    options = ("--concurrency", "10", "--threads", threads)
    done = call_command("worker", "no_such_app:stats", *options, variables={})

    assert ("--threads 11 is more than --concurrency 10" in done.stderr) == is_warned


def test_names_of_jobs_are_never_read_as_markup(tmp_path: Path) -> None:
    (tmp_path / "marked.py").write_text(
        "from deferrable import Deferrable\n"
        "from deferrable.backend import InMemoryBackendFactory\n"
        "instance = Deferrable(InMemoryBackendFactory().create_backend_for_group(None))\n"
        "@instance.deferrable(name='[red]job\\x1b[/]')\n"
        "def job(): ...\n"
    )
    done = call_command("jobs", "marked:instance", variables={}, folder=tmp_path)

    assert r"[red]job\x1b[/]" in done.stdout
    assert done.returncode == 0


def test_debug_shows_the_traceback_before_the_line() -> None:
    done = call_command("stats", "cli_app.broken:stats", "--debug", variables={})

    assert done.stderr.startswith("Traceback (most recent call last):")
    assert 'raise RuntimeError("no configuration' in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: importing cli_app.broken raised")


def test_two_instances_on_one_queue_are_refused(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(
        "from deferrable import Deferrable\n"
        "from deferrable.backend import InMemoryBackendFactory\n"
        "backend = InMemoryBackendFactory().create_backend_for_group(None)\n"
        "one, other = Deferrable(backend), Deferrable(backend)\n"
    )
    done = call_command("worker", "shared:one", "shared:other", variables={}, folder=tmp_path)

    assert done.returncode == 2
    assert "shared:one and shared:other share <InMemoryQueue deferrable>" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker"],
        ["worker", STATS, "--concurrency", "0"],
        ["worker", STATS, "--prefetch", "-1"],
        ["no-such-command"],
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str], shell: Shell) -> None:
    assert shell.run(*arguments).returncode == 2


@pytest.mark.parametrize("package", ["click", "rich"])
def test_missing_extra_is_named_with_the_command_that_installs_it(package: str) -> None:
    (told,) = run_program(
        f"""
        import sys
        sys.modules[{package!r}] = None
        from deferrable.cli import main
        try:
            main()
        except SystemExit as error:
            print(error)
        """
    )

    assert f"needs the package {package!r}" in told
    assert install_command("cli") in told


# Stats.


def test_stats_count_what_is_available_in_flight_delayed_and_failed(shell: Shell) -> None:
    shell.fail(0)
    shell.divide.later_many([(1, 1), (2, 1)])
    shell.divide.options(delay_seconds=600).later(1, 1)
    shell.instance.backend.queue.pop()

    (counted, other) = shell.read("stats", STATS, MAILS)

    assert counted["instance"] == STATS
    counts = [counted[name] for name in ("available", "in_flight", "delayed", "errors")]
    assert counts == [1, 1, 1, 1]
    assert other["instance"] == MAILS


def test_stats_are_a_table_with_a_row_for_each_instance(shell: Shell) -> None:
    shell.divide.later_many([(1, 1)] * 1234)

    head, _, first, second = shell.run("stats", STATS, MAILS).stdout.rstrip().splitlines()

    assert head.split() == [
        *("instance", "available", "in", "flight", "delayed", "errors", "oldest")
    ]
    assert first.split()[:5] == [STATS, "1,234", "0", "0", "0"]
    assert first.split()[5].isdigit()
    assert second.split() == [MAILS, "0", "0", "0", "0", "-"]


def test_watched_stats_in_json_are_a_line_each_time_until_an_interrupt(shell: Shell) -> None:
    arguments = ("stats", STATS, "--watch", "--json", "--interval", "0.1")
    with Command(*arguments, variables=shell.variables) as command:
        command.wait_for('"available": 0')
        shell.divide.later(1, 1)
        command.wait_for('"available": 1')
        command.send(signal.SIGINT)

        assert command.end() == 0
    assert all(json.loads(line) for line in command.text.splitlines())


def in_terminal(
    shell: Shell,
    *arguments: str,
    until: str = "",
    then: bytes | signal.Signals | Callable[[], bytes] = b"",
) -> tuple[int, str]:
    """Run a command in a terminal of 100 columns; once it shows `until`, type or send `then`.

    Args:
        then: what to type, a signal, or what is called, and gives what to type.
    """
    ours, theirs = pty.openpty()
    variables = {**shell.variables, "COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "deferrable", *arguments],
        env={**environment({}), **variables},
        cwd=TESTS,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        while read := _read(ours):
            shown += read
            if then and until.encode() in shown:
                if isinstance(then, signal.Signals):
                    process.send_signal(then)
                else:
                    os.write(ours, then if isinstance(then, bytes) else then())
                then = b""
        os.close(ours)
        code = process.wait(60)
    return code, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # So Linux says that the other side was closed.
        return b""


def test_watched_stats_are_a_live_table_that_an_interrupt_leaves_with_code_0(shell: Shell) -> None:
    code, shown = in_terminal(shell, "stats", STATS, "--watch", until=STATS, then=signal.SIGINT)

    assert code == 0
    assert "available" in shown
    assert "Traceback" not in shown


def test_age_of_the_oldest_item_is_shown_where_the_queue_tells_it(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(
        "from deferrable.aio import Deferrable\n"
        "from deferrable.aio.backend import InMemoryBackendFactory\n"
        "backend = InMemoryBackendFactory().create_backend_for_group(None)\n"
        "async def stats(): return {'available': 1, 'oldest_age_seconds': 125}\n"
        "backend.queue._stats = stats\n"
        "instance = Deferrable(backend)\n"
    )
    shown = call_command("stats", "telling:instance", variables={}, folder=tmp_path).stdout

    assert shown.splitlines()[2].split() == ["telling:instance", "1", "-", "-", "0", "2", "min"]


# Errors.


def test_errors_are_listed_the_oldest_first_with_id_job_error_and_attempts(shell: Shell) -> None:
    ids = shell.fail(0, "x")

    done = shell.run("errors", "list", STATS)
    lines = [line.split() for line in done.stdout.splitlines()[2:-1]]

    assert [line[:3] for line in lines] == [
        [ids[0], "cli_app.jobs:divide", "ZeroDivisionError:"],
        [ids[1], "cli_app.jobs:divide", "TypeError:"],
    ]
    assert done.stdout.splitlines()[-1] == "2 of 2 errors"


def test_errors_of_one_type_are_listed_alone(shell: Shell) -> None:
    ids = shell.fail(0, "x")

    listed = shell.read("errors", "list", STATS, "--type", "TypeError")

    assert [(each["id"], each["error_type"]) for each in listed] == [(ids[1], "TypeError")]


def test_listing_leaves_errors_where_they_are(shell: Shell) -> None:
    shell.fail(0, 0)

    shell.run("errors", "list", STATS)

    assert shell.instance.backend.error_queue.stats() == {"available": 2, "in_flight": 0}


def test_an_error_is_shown_with_its_call_and_its_traceback(shell: Shell) -> None:
    (item_id,) = shell.fail(0)

    shown = shell.run("errors", "show", STATS, item_id[:8]).stdout
    (whole,) = shell.read("errors", "show", STATS, item_id)

    for part in (
        item_id,
        "cli_app.jobs:divide",
        "(1, by=0)",
        "ZeroDivisionError: division by ze",
    ):
        assert part in shown
    assert "Traceback (most recent call last)" in shown
    assert whole["call"] == {"args": ["1"], "kwargs": {"by": "0"}}
    assert whole["item"]["id"] == item_id


def test_text_of_an_error_is_never_read_as_markup(shell: Shell) -> None:
    shell.fail("[bold]")
    item = {
        "id": "b",
        "error": {"error_type": "E", "error_text": "[red]x[/] [/nothing]", "id": "b"},
    }
    shell.instance.backend.error_queue.push(item)

    assert "[red]x[/] [/nothing]" in shell.run("errors", "list", STATS).stdout
    assert "[red]x[/] [/nothing]" in shell.run("errors", "show", STATS, "b").stdout


def test_narrow_terminal_shows_beginnings_of_ids_that_commands_take(shell: Shell) -> None:
    (item_id,) = shell.fail(0)

    listed = call_command("errors", "list", STATS, variables={**shell.variables, "COLUMNS": "80"})
    short_id = listed.stdout.splitlines()[2].split()[0]
    shown = shell.read("errors", "show", STATS, short_id)

    assert "ZeroDivisionError: " in listed.stdout
    assert max(map(len, listed.stdout.splitlines())) <= 80
    assert short_id != item_id == shown[0]["id"]


def test_table_that_does_not_fit_into_the_terminal_is_a_list_with_every_column(
    shell: Shell,
) -> None:
    item_ids = shell.fail(0, "x")
    narrow = {**shell.variables, "COLUMNS": "40"}

    listed = call_command("errors", "list", STATS, variables=narrow).stdout
    counted = call_command("stats", STATS, variables=narrow).stdout

    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["id", item_ids[0][:13]],
        ["job", "cli_app.jobs:divide"],
        ["error", "ZeroDivisionError:"],
        ["attempts", "1"],
        ["age", "0"],
        [],
        ["id", item_ids[1][:13]],
        ["job", "cli_app.jobs:divide"],
        ["error", "TypeError:"],
        ["attempts", "1"],
        ["age", "0"],
        ["2", "of"],
    ]
    assert [line.split() for line in counted.splitlines()] == [
        ["instance", STATS],
        ["available", "0"],
        ["in", "flight", "0"],
        ["delayed", "0"],
        ["errors", "2"],
        ["oldest", "-"],
    ]
    assert max(map(len, [*listed.splitlines(), *counted.splitlines()])) <= 40


def test_traceback_is_not_wrapped_in_a_narrow_terminal(shell: Shell) -> None:
    (item_id,) = shell.fail(0)
    trace = shell.read("errors", "show", STATS, item_id)[0]["traceback"]

    shown = call_command(
        "errors", "show", STATS, item_id, variables={**shell.variables, "COLUMNS": "40"}
    )

    assert textwrap.indent(trace.rstrip(), "  ") in shown.stdout


def test_requeued_item_is_available_again(shell: Shell) -> None:
    ids = shell.fail(0, 0)

    done = shell.run("errors", "requeue", STATS, ids[0])

    assert (done.returncode, done.stdout) == (0, "requeued 1 of 1 items\n")
    assert shell.counts() == (1, 1)


def test_all_items_of_a_type_are_requeued_and_no_other(shell: Shell) -> None:
    ids = shell.fail(0, "x", 0)

    answer = shell.read("errors", "requeue", STATS, "--all", "--type", "ZeroDivisionError")

    assert answer == {"requeued": [ids[0], ids[2]], "failed": {}, "missing": []}
    assert shell.counts() == (2, 1)


def test_discarded_item_is_gone_and_yes_is_not_asked_for_twice(shell: Shell) -> None:
    ids = shell.fail(0, 0)

    done = shell.run("errors", "discard", STATS, ids[0], "--yes")

    assert (done.returncode, done.stdout) == (0, "discarded 1 of 1 items\n")
    assert shell.counts() == (0, 1)


def test_discarding_without_a_terminal_wants_yes(shell: Shell) -> None:
    shell.fail(0)

    done = shell.run("errors", "discard", STATS, "--all", answer="y\n")

    assert done.returncode == 2
    assert "add --yes" in done.stderr
    assert shell.counts() == (0, 1)


@pytest.mark.parametrize(
    ("answer", "code", "left"), [(b"n\r", 1, 2), (b"\r", 1, 2), (b"y\r", 0, 0)]
)
def test_discarding_shows_what_would_be_lost_and_asks(
    shell: Shell, answer: bytes, code: int, left: int
) -> None:
    ids = shell.fail(0, "x")

    ended, shown = in_terminal(
        shell, "errors", "discard", STATS, "--all", until="[y/N]", then=answer
    )

    assert all(item_id in shown for item_id in ids)
    assert f"Remove these 2 items of {STATS} for good?" in shown
    assert (ended, shell.counts()) == (code, (0, left))


def test_bulk_work_shows_its_progress_in_a_terminal(shell: Shell) -> None:
    shell.fail(*[0] * 20)

    code, shown = in_terminal(shell, "errors", "requeue", STATS, "--all")

    assert code == 0
    assert "100%" in shown
    assert "requeued 20 of 20 items" in shown


def test_nothing_is_held_while_it_asks_and_what_fails_meanwhile_is_not_discarded(
    shell: Shell,
) -> None:
    (asked_for,) = shell.fail(0)
    meanwhile: list[str] = []

    def fail_then_say_yes() -> bytes:
        in_flight.append(shell.instance.backend.error_queue.stats()["in_flight"])
        meanwhile.extend(shell.fail("x"))
        return b"y\r"

    in_flight: list[int] = []
    code, shown = in_terminal(
        shell, "errors", "discard", STATS, "--all", until="[y/N]", then=fail_then_say_yes
    )

    assert (code, in_flight) == (0, [0])
    assert "discarded 1 of 1 items" in shown
    left = shell.read("errors", "list", STATS)
    assert [each["id"] for each in left] == meanwhile != [asked_for]


MANY = 2 * CHUNK + 1


def errors(count: int) -> list[Item]:
    """Items of an error queue, every second one with a TypeError."""
    return [
        {
            "id": f"item-{number}",
            "serializer": "pickle",
            "method": "cli_app.jobs:divide",
            "args": pickle_text(()),
            "kwargs": pickle_text({}),
            "error": {
                "id": f"error-{number}",
                "error_type": "ValueError" if number % 2 else "TypeError",
                "ts": 1.0,
            },
        }
        for number in range(count)
    ]


def pickle_text(value: object) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def test_thousands_of_items_are_settled(shell: Shell) -> None:
    shell.instance.backend.error_queue.push_batch(errors(MANY))

    requeued = shell.run("errors", "requeue", STATS, "--all", "--type", "TypeError")
    counts = shell.counts()
    discarded = shell.run("errors", "discard", STATS, "--all", "--yes")

    assert requeued.stdout == f"requeued {CHUNK + 1:,} of {CHUNK + 1:,} items\n"
    assert counts == (CHUNK + 1, CHUNK)
    assert discarded.stdout == f"discarded {CHUNK:,} of {CHUNK:,} items\n"
    assert shell.counts() == (CHUNK + 1, 0)


@pytest.mark.parametrize(
    ("narrowing", "told"),
    [
        ([], [f"and {MANY - 10:,} more", f"Remove these {MANY:,} items of {STATS} for good?"]),
        (["--type", "TypeError"], ["and more", f"Remove every TypeError of {STATS} for good?"]),
    ],
    ids=["all", "all of a type"],
)
def test_of_many_items_the_first_ten_are_shown(
    shell: Shell, narrowing: list[str], told: list[str]
) -> None:
    shell.instance.backend.error_queue.push_batch(errors(MANY))

    arguments = ["errors", "discard", STATS, "--all", *narrowing]
    code, shown = in_terminal(shell, *arguments, until="[y/N]", then=b"n\r")

    assert code == 1
    assert shown.count("item-") == 10
    assert all(part in shown for part in told)
    assert shell.counts() == (0, MANY)


class _Counting(InMemoryQueue):
    """Notes how many of its items are leased whenever some are."""

    most_leased = 0

    async def _pop_keys(self, keys: Sequence[str]) -> Sequence[Any]:
        popped = await super()._pop_keys(keys)
        self.most_leased = max(self.most_leased, int((await self.stats())["in_flight"]))
        return popped


@pytest.mark.anyio
@pytest.mark.parametrize("is_settled", [True, False], ids=["settled", "refused"])
async def test_no_more_than_a_chunk_is_leased_while_all_are_settled(is_settled: bool) -> None:
    backend = InMemoryBackendFactory().create_backend_for_group(None)
    queue = backend.error_queue
    queue.__class__ = _Counting
    assert isinstance(queue, _Counting)
    await queue.push_each(errors(MANY))

    async def settle(entry: ErrorItem) -> None:
        if not is_settled:
            raise UnreadableItem("not this one")
        await entry.discard()

    async with AsyncDeferrable(backend) as instance, instance.errors() as items:
        chunks = each_chunk(items, Choice(is_all=True))
        done, failed = await _settle_each(items, chunks, settle, "settled", MANY)

    assert queue.most_leased == CHUNK
    assert (len(done), len(failed)) == ((MANY, 0) if is_settled else (0, MANY))
    assert await queue.stats() == {"available": len(failed), "in_flight": 0, "delayed": 0} | (
        {"oldest_age_seconds": ANY} if failed else {}
    )


@pytest.mark.anyio
async def test_looking_at_errors_leases_none_of_them() -> None:
    backend = InMemoryBackendFactory().create_backend_for_group(None)
    await backend.error_queue.push_each(errors(MANY))

    async with AsyncDeferrable(backend) as instance, instance.errors() as items:
        found = await choose(items, Choice(ids=("item-700", "item-31")))
        counts = await backend.error_queue.stats()
        (taken,) = await items.take(found.entries[:1])

        assert {entry.id for entry in found.entries} == {"item-700", "item-31"}
        assert (counts["available"], counts["in_flight"]) == (MANY, 0)
        await taken.discard()
    counts = await backend.error_queue.stats()
    assert (counts["available"], counts["in_flight"]) == (MANY - 1, 0)


def test_an_id_is_not_taken_for_the_beginning_of_another(shell: Shell) -> None:
    for item_id in ("same", "same-1"):
        item = {"id": item_id, "error": {"id": item_id, "error_type": "E"}}
        shell.instance.backend.error_queue.push(item)

    done = shell.run("errors", "discard", STATS, "same", "--yes")

    assert (done.returncode, done.stdout) == (0, "discarded 1 of 1 items\n")
    assert [each["id"] for each in shell.read("errors", "list", STATS)] == ["same-1"]


def test_an_error_that_somebody_else_holds_is_shown_but_not_settled(shell: Shell) -> None:
    (item_id,) = shell.fail(0)
    shell.instance.backend.error_queue.pop()

    shown = shell.run("errors", "show", STATS, item_id)
    done = shell.run("errors", "requeue", STATS, item_id)

    assert (shown.returncode, item_id in shown.stdout) == (0, True)
    assert (done.returncode, done.stdout) == (1, "requeued 0 of 1 items\n")
    assert done.stderr == f"{item_id}: it is gone, or somebody else holds it; try again\n"


@pytest.mark.parametrize(
    "command", [["list"], ["show", "--all"], ["requeue", "--all"], ["discard", "--all", "--yes"]]
)
def test_a_type_that_no_error_has_is_answered_with_the_types_that_there_are(
    shell: Shell, command: list[str]
) -> None:
    shell.fail(0, "x", 0)

    done = shell.run("errors", command[0], STATS, *command[1:], "--type", "KeyError")

    assert done.returncode == 0
    assert done.stderr == (
        "no error here is of the type KeyError; there are: ZeroDivisionError (2), TypeError (1)\n"
    )
    assert shell.counts() == (0, 3)


def test_an_error_is_shown_with_why_it_was_not_retried(shell: Shell) -> None:
    (item_id,) = shell.fail(0)

    shown = shell.run("errors", "show", STATS, item_id).stdout
    (listed,) = shell.read("errors", "list", STATS)

    reason = "ZeroDivisionError is not among its error_classes (none)"
    assert f"not retried  {reason}" in shown
    assert listed["reason"] == reason


@pytest.mark.parametrize("command", [["show"], ["requeue"], ["discard", "--yes"]])
def test_id_that_is_not_there_is_code_1(shell: Shell, command: list[str]) -> None:
    done = shell.run("errors", *command, STATS, "no-such-id")

    assert done.returncode == 1
    assert "Error: no error here has the id no-such-id" in done.stderr


@pytest.mark.parametrize("command", [["show"], ["requeue"], ["discard", "--yes"]])
@pytest.mark.parametrize("which", [[], ["--type", "TypeError"], ["some-id", "--all"]])
def test_items_are_said_by_id_or_by_all(shell: Shell, command: list[str], which: list[str]) -> None:
    done = shell.run("errors", *command, STATS, *which)

    assert done.returncode == 2
    assert "Error: say which items" in done.stderr


def test_beginning_of_an_id_that_fits_several_items_is_refused(shell: Shell) -> None:
    for item_id in ("same-1", "same-2"):
        item = {"id": item_id, "error": {"id": item_id, "error_type": "E"}}
        shell.instance.backend.error_queue.push(item)

    done = shell.run("errors", "discard", STATS, "same", "--yes")

    assert done.returncode == 2
    assert "same matches 2 items" in done.stderr
    assert shell.counts() == (0, 2)


def test_item_that_names_no_job_is_not_requeued_and_told_of(shell: Shell) -> None:
    item = {"id": "odd", "error": {"id": "odd", "error_type": "E"}}
    shell.instance.backend.error_queue.push(item)

    done = shell.run("errors", "requeue", STATS, "odd")

    assert done.returncode == 1
    assert done.stderr.startswith("odd: ")
    assert shell.counts() == (0, 1)


# Jobs.


def test_jobs_are_listed_with_their_options(shell: Shell) -> None:
    listed = {each["job"]: each for each in shell.read("jobs", STATS, MAILS)}

    count, send = listed["cli_app.jobs:count"], listed["cli_app.jobs:send"]
    assert (count["instance"], count["kind"]) == (STATS, "async")
    assert count["options"]["error_classes"] == ["OSError"]
    assert count["options"]["max_attempts"] == 3
    assert count["options"]["timeout_seconds"] == 60
    assert (send["instance"], send["kind"]) == (MAILS, "plain")
    assert send["options"]["error_classes"] == ["ConnectionError"]
    assert send["options"]["max_attempts"] == 5


def test_jobs_are_a_table_that_shows_the_options_that_were_set(shell: Shell) -> None:
    shown = shell.run("jobs", STATS).stdout

    (line,) = [line for line in shown.splitlines() if "jobs:count" in line]
    assert line.split() == ["cli_app.jobs:count", "async", "3", "OSError", "timeout_seconds=60"]


def test_jobs_need_no_broker() -> None:
    assert call_command("jobs", "cli_app.unreachable:stats", variables={}).returncode == 0
