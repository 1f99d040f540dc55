"""Tasks that may be done when they are begun, and waits that a cancellation does not end."""

import asyncio
import sys
from contextvars import ContextVar, copy_context

import pytest

from deferrable.aio._contract.tasks import start_task, until_done

pytestmark = pytest.mark.anyio

number: ContextVar[int] = ContextVar("number", default=0)


async def tell_number() -> tuple[int, asyncio.Task[object] | None]:
    return number.get(), asyncio.current_task()


async def test_a_task_runs_in_its_own_context_and_is_its_own_task() -> None:
    context = copy_context()
    context.run(number.set, 7)

    task = start_task(asyncio.get_running_loop(), tell_number(), context)

    assert await task == (7, task)


async def test_the_code_that_begins_a_task_goes_on_in_its_own_context() -> None:
    mine = asyncio.current_task()
    context = copy_context()
    context.run(number.set, 7)

    task = start_task(asyncio.get_running_loop(), tell_number(), context)

    assert (asyncio.current_task(), number.get()) == (mine, 0)
    await task


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 begins tasks in the next pass")
async def test_what_never_waits_is_done_when_it_is_begun() -> None:
    task = start_task(asyncio.get_running_loop(), tell_number(), copy_context())

    assert task.done()


async def test_what_waits_can_be_cancelled() -> None:
    task = start_task(asyncio.get_running_loop(), asyncio.sleep(60), copy_context())
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_waits_for_the_end_and_is_not_lost() -> None:
    ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(until_done(ending))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)

    assert not waiting.done()
    ending.set_result(None)
    assert isinstance(await waiting, asyncio.CancelledError)
