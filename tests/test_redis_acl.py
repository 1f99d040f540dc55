"""A user of Redis may do what docs/operating.md lists, and everything works with nothing else."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from processes import ROOT
from redis_server import RedisServer, start_redis

import deferrable
from deferrable.aio import Deferrable
from deferrable.aio.backend import DocketsBackendFactory
from deferrable.backend import DocketsBackendFactory as BlockingFactory
from deferrable.errors import BackendError
from deferrable.testing import wait_until

PAGE = (ROOT / "docs" / "operating.md").read_text()
(RULES,) = re.findall(r"^ACL SETUSER shop on >secret (.*?)\n```", PAGE, re.M | re.S)


NEVER_ON_ONE_SERVER = {"asking", "cluster|slots", "sentinel|master", "role", "match", "moved|ask"}
"""Of clusters and Sentinels, and words that are no commands."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture
def url(server: RedisServer) -> Iterator[str]:
    """Of a user that has what the page says."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "shop", "reset")
        client.execute_command("ACL", "SETUSER", "shop", "on", ">secret", *RULES.split())
        client.execute_command("ACL", "LOG", "RESET")
        yield server.url.replace("redis://", "redis://shop:secret@")
        refused = client.execute_command("ACL", "LOG")
    reasons = [_reason(each) for each in refused]
    # redis-py names itself when it connects (CLIENT SETINFO), and goes on if that is refused.
    named = {"command client (toplevel)", "command client|setinfo (toplevel)"}
    assert [each for each in reasons if each not in named] == []


def _reason(entry: Any) -> str:
    fields = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
    named = {_text(key): _text(value) for key, value in fields.items()}
    return f"{named['reason']} {named['object']} ({named['context']})"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def note(number: int) -> int:
    return number


async def fail(number: int) -> None:
    raise OSError(number)


async def work(url: str) -> None:
    """Everything that an application does: producers, workers and operators."""
    factory = DocketsBackendFactory(url, wait_time=1, timeout=2)
    backend = factory.create_backend_for_group("shop")
    async with Deferrable(backend, default_error_classes=[OSError]) as shop:
        job = shop.deferrable(note, name="note")
        failing = shop.deferrable(fail, name="fail")
        shop.periodic(every_seconds=1)(shop.deferrable(name="tick")(note_tick))
        receipt = await job.options(keep_results_seconds=60).later_async(1)
        await job.options(delay_seconds=1).later_async(2)
        await job.options(debounce_seconds=1).later_async(3)
        await job.options(debounce_seconds=1).later_async(3)
        await job.options(unique=True).later_async(4)
        assert (await job.options(unique=True).later_async(4)).status == "duplicate"
        await job.later_many_async([(number,) for number in range(5, 10)])
        await failing.options(max_attempts=2).later_async(1)
        cancelled = await job.options(delay_seconds=1000).later_async(10)
        assert await cancelled.cancel_async() == "cancelled"
        hastened = await job.options(delay_seconds=1000).later_async(11)
        await hastened.run_now_async()
        await shop.pause(reason="a look")
        await shop.peek(10)
        await shop.resume()
        async with shop.running(concurrency=3):
            assert await receipt.result_async(timeout_seconds=60) == 1

            async def has_failed() -> bool:
                return (await backend.error_queue.stats())["available"] > 0

            await wait_until(has_failed, "a job has failed twice")
        await receipt.state_async()
        await backend.queue.stats()
        await backend.queue.server_memory()
        async with shop.errors() as errors:
            async for error in errors:
                await error.requeue()
                break
        await backend.queue.old_consumers()
        await backend.queue.flush()
        await backend.error_queue.flush()


def note_tick() -> None:
    """A tick."""


def test_everything_works_with_what_the_page_lists(url: str) -> None:
    asyncio.run(work(url))


def test_blocking_calls_work_with_what_the_page_lists(url: str) -> None:
    backend = BlockingFactory(url).create_backend_for_group("shop")
    with deferrable.Deferrable(backend) as shop:
        job = shop.deferrable(note, name="note")
        job.later(1)
        job.options(debounce_seconds=1).later(2)
        outcome = shop.run_once()
        assert outcome is not None
        assert outcome.status == "completed"


def test_page_lists_each_command_that_the_code_can_send() -> None:
    folder = ROOT / "deferrable" / "aio" / "backend"
    scripts = "".join(path.read_text() for path in folder.rglob("*.lua"))
    modules = "".join(
        path.read_text() for name in ("_redis", "dockets") for path in (folder / name).glob("*.py")
    )
    in_scripts = re.findall(r"redis\.p?call\(\s*['\"](\w+)", scripts)
    in_modules = re.findall(r'\(\s*"([A-Z]{3,})"(?:, "([A-Z]+)")?', modules)
    sent = {each.lower() for each in in_scripts}
    sent |= {f"{name}|{part}".rstrip("|").lower() for name, part in in_modules}

    listed = {each[1:] for each in RULES.split() if each.startswith("+")}

    assert sent - NEVER_ON_ONE_SERVER - listed == set()
    assert listed - sent - {"getdel"} == set()


def test_other_keys_and_commands_are_refused(server: RedisServer, url: str) -> None:
    with redis.Redis.from_url(url) as client:
        for command in (("GET", "mine"), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("FLUSHALL",)):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "LOG", "RESET")


def test_queue_of_another_group_is_refused(server: RedisServer, url: str) -> None:
    backend = BlockingFactory(url).create_backend_for_group("mails")
    with deferrable.Deferrable(backend) as mails, pytest.raises(BackendError, match="NOPERM"):
        mails.deferrable(note, name="note").later(1)
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "LOG", "RESET")
