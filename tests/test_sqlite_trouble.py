"""What goes wrong around a SQLite file is one clear error, and no acknowledged push is lost."""

import asyncio
import os
import sqlite3
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import DEADLINE_SECONDS, ROOT
from warm_python import run_python, start_python

import deferrable.backend
from deferrable.aio.backend.sqlite import SQLiteBackendFactory, _connection, _place, _schema
from deferrable.aio.backend.sqlite._queue import SQLiteQueue
from deferrable.aio.backend.sqlite._writer import Writer
from deferrable.errors import BackendError, BackendUnavailable, InvalidOptions
from deferrable.sync.queue import Queue

Blocking = deferrable.backend.Backend


def make(path: object, **options: Any) -> Blocking:
    factory = deferrable.backend.SQLiteBackendFactory(
        path,  # type: ignore[arg-type]
        wait_time=0,
        durability="process",
        **options,
    )
    return factory.create_backend_for_group(None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def queue(path: Path) -> Iterator[Queue]:
    with make(path) as backend:
        yield backend.queue


def writer_of(queue: Queue) -> Writer:
    core = queue._core
    assert isinstance(core, SQLiteQueue)
    return core.writer


def let_go(queue: Queue) -> None:
    """Close the connection, as the last user does; the next call opens another."""
    writer_of(queue).close()


def connection_of(queue: Queue) -> sqlite3.Connection:
    """The connection that the queue has open now."""
    connection = writer_of(queue)._transactions.connection
    assert connection is not None
    return connection.connection


def numbers(queue: Queue) -> list[int]:
    return [item["number"] for _, item in queue.pop_up_to(1000)]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)


# The path.


@pytest.mark.parametrize("given", [":memory:", "", "file:jobs.db?mode=ro", "sqlite:///a", 3, None])
def test_path_that_is_none_of_a_file_is_refused(given: object) -> None:
    with pytest.raises(InvalidOptions):
        make(given)


@pytest.mark.parametrize("durability", ["off", None, "FULL"])
def test_unknown_durability_is_refused(path: Path, durability: Any) -> None:
    with pytest.raises(InvalidOptions, match="durability"):
        SQLiteBackendFactory(path, durability=durability)


def test_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))

    with pytest.raises(InvalidOptions, match=r"3\.37"):
        make(path)


def test_relative_path_means_the_directory_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with make("jobs.db") as backend:
        monkeypatch.chdir("/")
        backend.queue.push({"number": 1})

    assert (tmp_path / "jobs.db").exists()


def test_name_that_is_no_utf8_works(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.db"
    with make(name) as backend:
        backend.queue.push({"number": 1})
        with closing(sqlite3.connect(name)) as connection, backend.queue.using(connection):
            pass

        assert numbers(backend.queue) == [1]


def test_symbolic_link_is_the_same_queue(queue: Queue, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    queue.push({"number": 1})

    with make(tmp_path / "link.db") as linked:
        assert linked.queue.identity == queue.identity
        assert numbers(linked.queue) == [1]


def test_file_with_two_names_is_refused(queue: Queue, path: Path, tmp_path: Path) -> None:
    queue.push({"number": 1})
    let_go(queue)
    (tmp_path / "other.db").hardlink_to(path)

    with pytest.raises(BackendError, match="hard links"):
        queue.pop()


def test_missing_directory_and_a_directory_are_refused(tmp_path: Path) -> None:
    with make(tmp_path / "none" / "jobs.db") as backend, pytest.raises(BackendError, match="exist"):
        backend.queue.push({})
    with make(tmp_path) as backend, pytest.raises(BackendError, match="is a directory"):
        backend.queue.push({})


def test_network_file_systems_are_told_from_local_ones(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\n"
        "host:/home /home nfs4 rw 0 0\n"
        "/dev/sdb /home/me/local\\040disk xfs rw 0 0\n"
        "me@host: /mnt/ssh fuse.sshfs rw 0 0\n"
        "C: /mnt/c 9p rw 0 0\n"
        "grpcfuse /mnt/fuse fuse.mergerfs rw 0 0\n"
        "//host/share /mnt/c/deep cifs rw 0 0\n"
    )
    kinds = {
        "/": None,
        "/homes": None,
        "/home": "nfs4",
        "/home/me": "nfs4",
        "/home/me/local disk": None,
        "/mnt/ssh/deep": "fuse.sshfs",
        "/mnt/c": "9p",
        "/mnt/c/deep": "cifs",
        "/mnt/fuse": None,
    }

    found = {each: _place.network_file_system(each, str(mounts)) for each in kinds}

    assert found == kinds


def test_file_on_the_network_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_place, "network_file_system", lambda directory: "nfs4")

    with make(path) as backend, pytest.raises(BackendError, match="nfs4"):
        backend.queue.push({})


# The file.


def test_full_file_refuses_pushes_keeps_what_it_has_and_goes_on(queue: Queue) -> None:
    queue.push({"number": 0})
    ((pages,),) = connection_of(queue).execute("PRAGMA page_count").fetchall()
    connection_of(queue).execute(f"PRAGMA max_page_count = {pages + 4}")
    acknowledged = 1

    def fill() -> None:
        nonlocal acknowledged
        for number in range(1, 100):
            queue.push({"number": number, "text": "x" * 1000})
            acknowledged += 1

    with pytest.raises(BackendUnavailable, match="no room left"):
        fill()
    assert acknowledged > 1

    ((envelope, _),) = queue.pop_up_to(1)
    queue.complete(envelope)

    connection_of(queue).execute("PRAGMA max_page_count = 1000000")
    queue.push({"number": acknowledged})
    assert numbers(queue) == list(range(1, acknowledged + 1))


def test_item_without_room_fails_alone_in_its_batch(queue: Queue) -> None:
    queue.push({"number": 0})
    ((pages,),) = connection_of(queue).execute("PRAGMA page_count").fetchall()
    connection_of(queue).execute(f"PRAGMA max_page_count = {pages + 2}")
    items = [{"number": number} for number in range(1, 8)]
    items[3]["text"] = "x" * 50_000  # type: ignore[assignment]

    outcomes = queue.push_each(items)

    assert [outcome is None for outcome in outcomes] == [number != 3 for number in range(7)]
    assert numbers(queue) == [0, 1, 2, 3, 5, 6, 7]


def test_locked_file_is_waited_for(queue: Queue, path: Path) -> None:
    queue.push({"number": 1})
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        async def push() -> None:
            pushing = asyncio.create_task(queue._core.push({"number": 2}))
            await asyncio.sleep(0.2)
            assert not pushing.done()
            other.execute("ROLLBACK")
            await pushing

        asyncio.run(push())

    assert numbers(queue) == [1, 2]


def test_file_that_stays_locked_is_one_clear_error_and_can_be_looked_at(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.push({"number": 1})
    monkeypatch.setattr(_connection, "_PATIENCE_SECONDS", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(BackendUnavailable, match="locked by another program for"):
            queue.push({"number": 2})
        assert queue.stats()["available"] == 1

    assert numbers(queue) == [1]


def test_damaged_file_is_one_clear_error(queue: Queue, path: Path) -> None:
    queue.push_each([{"number": number, "text": "x" * 1000} for number in range(100)])
    let_go(queue)
    damage(path)

    for call in (queue.pop, queue.stats, lambda: queue.push({})):
        with pytest.raises(BackendError, match="damaged"):
            call()


def test_other_kind_of_file_is_refused_and_left_alone(path: Path) -> None:
    content = b"a file of another kind\n" * 500
    path.write_bytes(content)

    with make(path) as backend, pytest.raises(BackendError, match="not a SQLite database"):
        backend.queue.push({})

    assert path.read_bytes() == content


def test_file_of_a_newer_version_is_refused_and_left_alone(queue: Queue, path: Path) -> None:
    queue.push({"number": 1})
    let_go(queue)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE deferrable_meta SET value = '99' WHERE name = 'version'")
        connection.commit()

    with pytest.raises(BackendError, match="newer version of deferrable: its layout is 99"):
        queue.push({"number": 2})

    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE deferrable_meta SET value = '1' WHERE name = 'version'")
        connection.commit()
    assert numbers(queue) == [1]


def test_older_file_is_brought_up_to_date_with_its_items(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.push({"number": 1})
    let_go(queue)

    def add_column(connection: Any) -> None:
        connection.execute("ALTER TABLE deferrable_items ADD COLUMN later TEXT")

    monkeypatch.setattr(_schema, "UPGRADES", [*_schema.UPGRADES, add_column])

    assert numbers(queue) == [1]
    rows = connection_of(queue).execute("SELECT later FROM deferrable_items").fetchall()
    version = connection_of(queue).execute("SELECT value FROM deferrable_meta").fetchall()
    assert rows == [(None,)]
    assert (b"2",) in version


def test_failed_upgrade_changes_nothing(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.push({"number": 1})
    let_go(queue)

    def fail(connection: Any) -> None:
        connection.execute("ALTER TABLE deferrable_items ADD COLUMN later TEXT")
        connection.execute("no SQL")

    with monkeypatch.context() as patch:
        patch.setattr(_schema, "UPGRADES", [*_schema.UPGRADES, fail])
        with pytest.raises(BackendError):
            queue.pop()

    assert numbers(queue) == [1]
    with pytest.raises(sqlite3.OperationalError):
        connection_of(queue).execute("SELECT later FROM deferrable_items")


def test_tables_and_version_of_the_application_are_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE items (number)")
        connection.execute("PRAGMA user_version = 7")
        connection.commit()

    with make(path) as backend:
        backend.queue.push({"number": 1})
        assert numbers(backend.queue) == [1]

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchall() == [(7,)]
        assert connection.execute("SELECT * FROM items").fetchall() == []


@pytest.mark.parametrize("is_replaced", [True, False])
def test_file_that_goes_while_it_is_open_is_told_once(
    queue: Queue, path: Path, tmp_path: Path, is_replaced: bool
) -> None:
    queue.push({"number": 1})
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        (tmp_path / name).unlink()
    if is_replaced:
        sqlite3.connect(path).close()
        path.touch()
    time.sleep(2 * _connection._TRUST_SECONDS)

    with pytest.raises(BackendUnavailable, match="deleted or replaced"):
        queue.push({"number": 2})

    queue.push({"number": 3})
    assert numbers(queue) == [3]


def test_items_that_another_program_wrote_or_damaged_stop_nobody(queue: Queue) -> None:
    queue.push_each([{"number": number} for number in range(4)])
    connection = connection_of(queue)
    connection.execute("UPDATE deferrable_items SET text = 'no JSON' WHERE id = 1")
    connection.execute("UPDATE deferrable_items SET text = CAST(x'ff' AS TEXT) WHERE id = 2")

    popped = numbers(queue)
    again = numbers(queue)

    assert popped + again == [2, 3]
    assert queue.stats()["in_flight"] == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="gives up root's rights")
@pytest.mark.parametrize("name", ["jobs.db", "new.db"])
def test_directory_that_cannot_be_written_is_one_clear_error(
    queue: Queue, tmp_path: Path, name: str
) -> None:
    queue.push({"number": 1})
    let_go(queue)
    source = f"""
        import os, sys
        from deferrable.backend import SQLiteBackendFactory
        from deferrable.errors import BackendError

        factory = SQLiteBackendFactory({str(tmp_path / name)!r})
        queue = factory.create_backend_for_group(None).queue
        os.setgid(65534)
        os.setuid(65534)
        try:
            queue.push({{}})
        except BackendError as error:
            print(error)
    """
    for each in (tmp_path, *tmp_path.parents):
        each.chmod(each.stat().st_mode | 0o055)

    told = run(source)

    assert "this user" in told
    assert str(tmp_path / name) in told


# Processes.


def run(source: str, *arguments: str) -> str:
    """What a program prints."""
    ended = run_python(
        ["-c", textwrap.dedent(source), *arguments],
        cwd=ROOT,
        env=os.environ,
        timeout=DEADLINE_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


FORKING = """
    import asyncio, os, sys, threading, warnings
    from deferrable.backend import SQLiteBackendFactory
    import deferrable._fork

    warnings.simplefilter("ignore", DeprecationWarning)
    backend = SQLiteBackendFactory(sys.argv[1], 0.2).create_backend_for_group(None)
    queue = backend.queue
    queue.push({"number": 0})
    ((envelope, _),) = queue.pop_batch(1)
    is_over = threading.Event()

    def push_on():
        number = 100
        while not is_over.is_set():
            queue.push({"number": number})
            number += 1

    pushing = threading.Thread(target=push_on)
    pushing.start()
    for number in range(1, 6):
        child = os.fork()
        if not child:
            try:
                queue.push({"number": number})
                assert queue.stats()["available"]
                ((held, _),) = queue.pop_batch(1)
                queue.complete(held)
                queue.push({"number": number})
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    is_over.set()
    pushing.join()
    queue.complete(envelope)
    print(queue.stats()["in_flight"])
"""


def test_parent_and_children_use_the_file_at_once(path: Path) -> None:
    told = run(FORKING, str(path))

    assert told.strip() == "0"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_child_that_python_did_not_hear_of_refuses_to_go_on(path: Path) -> None:
    told = run(
        """
        import ctypes, os, sys
        from deferrable.backend import SQLiteBackendFactory
        from deferrable.errors import BackendError

        queue = SQLiteBackendFactory(sys.argv[1], 0).create_backend_for_group(None).queue
        queue.push({"number": 1})
        child = ctypes.CDLL(None).fork()  # as uWSGI does
        if not child:
            try:
                queue.push({"number": 2})
            except BackendError as error:
                os.write(1, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        queue.push({"number": 3})
        print(queue.stats()["available"])
        """,
        str(path),
    )

    assert "was forked" in told
    assert told.strip().endswith("2")


WORKING = """
    import random, sys
    from deferrable.backend import SQLiteBackendFactory

    path, seed, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    backend = SQLiteBackendFactory(path, 0, durability="process").create_backend_for_group(None)
    queue, draw = backend.queue, random.Random(seed)
    pushed = completed = 0
    for turn in range(end):
        if draw.random() < 0.5:
            items = [{"number": seed * 10**6 + pushed + n} for n in range(draw.randrange(1, 5))]
            assert queue.push_each(items) == [None] * len(items)
            pushed += len(items)
        for held, _ in queue.pop_batch(draw.randrange(1, 5)):
            what = draw.random()
            if what < 0.7:
                queue.complete(held)
                completed += 1
            elif what < 0.8:
                queue.touch(held, 60)
                queue.release(held)
            elif what < 0.9:
                queue.replace(held, {"number": -1}, backend.error_queue)
                completed += 1
            else:
                queue.release(held, 0.001)
        if draw.random() < 0.02:
            backend.close()
    print(pushed, completed)
"""


def test_eight_processes_at_once_never_find_it_locked_and_lose_nothing(path: Path) -> None:
    programs = [
        start_python(
            ["-c", textwrap.dedent(WORKING), str(path), str(seed), "150"],
            cwd=ROOT,
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(8)
    ]
    counts = []
    for program in programs:
        output, errors = program.communicate(timeout=DEADLINE_SECONDS)
        assert program.returncode == 0, errors
        counts.append([int(word) for word in output.split()])

    time.sleep(0.01)  # what was released with a delay
    pushed, completed = map(sum, zip(*counts, strict=True))
    with make(path) as backend:
        stats = backend.queue.stats()
    assert stats["available"] + stats["in_flight"] == pushed - completed
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_restart_of_the_machine_ends_all_leases(
    queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.push({"number": 1})
    assert numbers(queue) == [1]
    assert numbers(queue) == []
    let_go(queue)

    monkeypatch.setattr(_connection, "boot_id", lambda: "another one")

    assert numbers(queue) == [1]


def test_files_beside_the_database_are_gone_when_the_last_one_closes(
    path: Path, tmp_path: Path
) -> None:
    first, second = make(path), make(path)
    asyncio.run(first.queue._core.push({"number": 1}))
    assert second.queue.pop()[1] == {"number": 1}
    first.close()
    assert second.queue.stats()["in_flight"] == 1
    second.close()

    assert [each.name for each in tmp_path.iterdir()] == ["jobs.db"]


INTERRUPTED = """
    import random, signal, sys, threading, time, warnings
    import deferrable
    from deferrable.backend import SQLiteBackendFactory

    warnings.simplefilter("ignore", RuntimeWarning)  # a push that was interrupted before it began
    factory = SQLiteBackendFactory(sys.argv[1], 0, durability="process")
    backend = factory.create_backend_for_group(None)
    instance = deferrable.Deferrable(backend)

    def note(number):
        pass

    job = instance.deferrable(note, name="note")
    job.later(0)
    acknowledged, interrupts, is_over, is_armed = [1, 0, 0], 0, threading.Event(), False

    def push_on(place):
        while not is_over.is_set():
            job.later(place)
            acknowledged[place] += 1

    def interrupt(number, frame):
        if is_armed:
            raise KeyboardInterrupt

    threads = [threading.Thread(target=push_on, args=(place,), daemon=True) for place in (1, 2)]
    for thread in threads:
        thread.start()
    signal.signal(signal.SIGALRM, interrupt)
    draw, end = random.Random(1), time.monotonic() + 3
    while time.monotonic() < end:
        try:
            is_armed = True
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.0001, 0.003))
            while True:
                job.later(0)
                acknowledged[0] += 1
        except KeyboardInterrupt:
            interrupts += 1
        finally:
            is_armed = False
    is_over.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    print(sum(acknowledged), backend.queue.stats()["available"], interrupts)
"""


def test_interrupts_lose_nothing_and_leave_nobody_waiting(path: Path) -> None:
    acknowledged, stored, interrupts = map(int, run(INTERRUPTED, str(path)).split())

    assert interrupts > 10
    assert acknowledged <= stored <= acknowledged + interrupts
