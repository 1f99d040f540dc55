"""The instance: jobs, a backend and listeners.

Owns what users configure, and the methods of a consumer. It gets a backend, and names only one
adapter: the debounce store of a `redis_client`. `deferring` defers the jobs of an instance, and
`attempt` runs them; the blocking API uses the same two behind its own door.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import copy_context
from typing import Any
from weakref import ref

from deferrable._durations import Duration
from deferrable._protection import Encryption, Protection, SigningKeys
from deferrable.aio._contract.closing import Closing
from deferrable.aio._contract.tasks import start_task, until_done
from deferrable.aio._decorating import Decorating
from deferrable.aio._engine.attempt import Attempt, outcome_of
from deferrable.aio._engine.emitting import emit
from deferrable.aio._engine.handed_order import FailureStops
from deferrable.aio._engine.handing import handle_event
from deferrable.aio._engine.instance import Instance, Lifespan
from deferrable.aio._engine.running import AwaitingDoor, Door
from deferrable.aio._engine.task_door import TaskDoor
from deferrable.aio._following import Following
from deferrable.aio._listening import Listening
from deferrable.aio._scheduling import Scheduling
from deferrable.aio.backend.base import Backend
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import DebounceStore
from deferrable.aio.envelope import Envelope
from deferrable.aio.error_items import ErrorItems
from deferrable.aio.results import ResultStore
from deferrable.aio.schedules import ScheduleStore
from deferrable.aio.worker._life import Worker
from deferrable.item import Item
from deferrable.options import ErrorClasses
from deferrable.outcome import Outcome
from deferrable.pause import Pause

__all__ = ["Deferrable"]

_door = AwaitingDoor()


class Deferrable(Listening, Decorating, Scheduling, Following, Closing):
    """Defers calls to a backend and runs them from it, in asyncio.

    Without error classes, of the instance or of a job, no error is retried.

    Args:
        backend: the queue of the jobs, from a backend factory of `deferrable.aio.backend`.
        redis_client: where debounce windows are kept instead of in the backend's own store: a
            ``redis.asyncio.Redis``, a ``redis.Redis`` or a URL. SQS has no store.
        default_error_classes: errors that are retried, for jobs without ``error_classes``.
        default_max_attempts: how often a job runs at most, for jobs without ``max_attempts``.
        serializer: ``pickle`` for any picklable argument; ``json`` on a broker that others can
            write to; ``classic`` while consumers of the Python 2 library use the queue.
        accept: the serializers of items that are read; None: all. Other items are not decoded;
            they go to the error queue unchanged.
        signing_keys: secrets of at least 16 bytes each, shared by producers and consumers. The
            first one signs; an item is read only if one of them has signed it. To rotate, add the
            new key at the end everywhere, then put it first, then drop the old one.
        encryption: hides arguments and metadata from readers of the broker: an object with
            ``encrypt`` and ``decrypt``, bytes to bytes, such as a ``cryptography.fernet.Fernet``.
        import_from: what may be imported to find the job that an item names, if it is not
            registered yet: packages or modules, such as ``("app.",)``; None: all public names, or
            nothing if `accept` names neither ``pickle`` nor ``classic``. In every case only
            registered jobs are run.
        debounce_store: another store for debounce windows, instead of `redis_client`.
        lifespan: returns a context manager, async or plain, which a worker enters before its first
            pop and leaves after its last settlement; its value is ``current_attempt().state``.
        clock: the source of time; None: the backend's clock.
        check_arguments: ``later`` refuses arguments that the job's function does not take, and with
            ``json`` those that do not fit its annotations. False: for a producer whose version of
            the function is older or newer than the consumers'.
        results: where results are kept, instead of in the backend's own store; SQS has none.
        keep_results_seconds: how long results are kept for ``receipt.result()``, for jobs without
            the option; 0: not at all.
        schedule_store: where periodic jobs are kept instead of in the backend's own store. SQS has
            none.

    Raises:
        InvalidOptions: a default is out of range, a serializer is unknown, or a key is not valid.
    """

    def __init__(
        self,
        backend: Backend,
        redis_client: Any = None,
        default_error_classes: ErrorClasses | None = None,
        default_max_attempts: int = 5,
        *,
        serializer: str = "pickle",
        accept: Iterable[str] | None = None,
        signing_keys: SigningKeys = (),
        encryption: Encryption | None = None,
        import_from: Iterable[str] | None = None,
        debounce_store: DebounceStore | None = None,
        lifespan: Lifespan | None = None,
        clock: Clock | None = None,
        check_arguments: bool = True,
        results: ResultStore | None = None,
        keep_results_seconds: Duration = 0,
        schedule_store: ScheduleStore | None = None,
    ) -> None:
        if debounce_store is None and redis_client is not None:
            debounce_store = _redis_store(redis_client, clock)
        self._redis_client = redis_client
        super().__init__(
            backend,
            default_error_classes,
            default_max_attempts,
            protection=Protection(serializer, accept, signing_keys, encryption),
            import_from=import_from,
            debounce_store=debounce_store,
            lifespan=lifespan,
            clock=clock,
            check_arguments=check_arguments,
            results=results,
            keep_results_seconds=keep_results_seconds,
            schedule_store=schedule_store,
        )

    @property
    def redis_client(self) -> Any:
        """The ``redis_client`` that was given, or None.

        Setting it keeps debounce windows there from the next ``later`` on.
        """
        return self._redis_client

    @redis_client.setter
    def redis_client(self, redis_client: Any) -> None:
        self.debounce_store = (
            None if redis_client is None else _redis_store(redis_client, self._clock)
        )
        self._redis_client = redis_client

    def _instance_of_jobs(self) -> Instance:
        return self

    async def run_once(self) -> Outcome | None:
        """Pop one item and make one attempt at it, keeping its lease meanwhile.

        A paused queue gives no item. Cancelling this loses nothing. An async job is cancelled and
        its item released, and no attempt is counted. A plain function cannot be cancelled, so it is
        waited for and settled.

        Returns:
            the outcome of the attempt; None if the queue was empty or paused.

        Raises:
            BackendError: the broker could not be reached, or refused the pop or the settlement. It
                is not retried: the caller decides. A popped item comes back after its lease.
        """
        envelope, item = await self.backend.queue.pop()
        return await self.process(envelope, item)

    async def process(self, envelope: Envelope | None, item: Item | None) -> Outcome | None:
        """Make one attempt at a popped item; see `run_once`.

        Args:
            envelope: from ``queue.pop()``; None if the queue was empty.
            item: from ``queue.pop()``.
        """
        if not envelope or item is None:
            await self.emit_empty(_door)
            return None
        context = copy_context()
        door = TaskDoor(context, _cancellation_of_caller())
        attempt = Attempt(self, door, envelope, item, context)
        loop = asyncio.get_running_loop()
        running = start_task(loop, attempt.run_job(completes=True), context)
        try:
            if running.done():
                await asyncio.sleep(0)  # or a caller who never waits would starve the loop
            else:
                await asyncio.wait([running])
        except asyncio.CancelledError as error:
            attempt.control.stop("cancelled")
            await until_done(running)
            if running.cancelled():
                # Before its first step, by a loop that is being shut down.
                await attempt.give_back()
            else:
                outcome_of(running.result())
            # The frame of asyncio.wait holds the task that waits: a cycle, from Python 3.14 on.
            error.__traceback__ = None
            raise
        try:
            outcome = outcome_of(running.result())
        finally:
            del running  # an error's traceback holds this frame
        try:
            if attempt.error_to_raise is not None:
                attempt.raise_error()
            return outcome
        finally:
            del outcome

    async def emit_empty(self, door: Door) -> None:
        """Emit that a pop found nothing."""
        await emit(door, self.event_consumers, "empty", None, None)

    def worker(
        self,
        concurrency: int = 100,
        *,
        threads: int | None = None,
        prefetch: int = 0,
        grace_seconds: Duration = 30.0,
        report: bool = True,
    ) -> Worker:
        """A worker over this instance's queue; see `Worker`.

        Args:
            concurrency: how many jobs run at once.
            threads: how many of them may be plain functions; None: 32.
            prefetch: how many items may be popped beyond the free slots while jobs end quickly.
            grace_seconds: how long running jobs may go on when the worker stops.
            report: have `find_workers` of the queue, and dashboards, show this worker.
        """
        return Worker(
            [self],
            concurrency=concurrency,
            threads=threads,
            prefetch=prefetch,
            grace_seconds=grace_seconds,
            report=report,
        )

    @asynccontextmanager
    async def running(
        self,
        concurrency: int = 100,
        *,
        threads: int | None = None,
        prefetch: int = 0,
        grace_seconds: Duration = 30.0,
        report: bool = True,
    ) -> AsyncIterator[Worker]:
        """Have a worker run beside the code in the block; its outcomes are not read by you.

        For the lifespan of a web application: ``async with shop.running(): yield``. At the end of
        the block the worker stops within the grace period, and the instance is closed.

        Args:
            concurrency: see `worker`.
            threads: see `worker`.
            prefetch: see `worker`.
            grace_seconds: see `worker`.
            report: see `worker`.

        Raises:
            BaseException: what the worker's `__aenter__` raises, or why it ended early.
        """
        async with self:
            worker = self.worker(
                concurrency,
                threads=threads,
                prefetch=prefetch,
                grace_seconds=grace_seconds,
                report=report,
            )
            async with worker:
                reading = asyncio.ensure_future(_read_all(worker))
                yield worker
            await reading

    async def handle_sqs_event(
        self,
        event: object,
        context: object = None,
        *,
        concurrency: int = 10,
        failure_stops: FailureStops = "batch",
    ) -> dict[str, list[dict[str, str]]]:
        """Run the items of an event by which AWS Lambda hands over messages of this SQS queue.

        Nothing is polled, touched or deleted here. The event source mapping needs
        ``FunctionResponseTypes: [ReportBatchItemFailures]``; without it Lambda would delete the
        messages that failed, too.

        Args:
            event: as Lambda gives it.
            context: as Lambda gives it. Jobs are stopped one second before the function's time
                ends, and their messages are reported. None: there is no such end.
            concurrency: how many jobs run at once.
            failure_stops: on a FIFO queue, what does not run after a message that has to come back.
                ``batch``: items run one by one, and the first that comes back is the last one.
                ``group``: groups run side by side, one item of each at a time, and only the rest of
                its own group comes back with it.

        Returns:
            what the function has to return: the messages that have to be delivered again.

        Raises:
            InvalidOptions: the event is of something else, or of another queue.
            Unsupported: the queue is not in SQS.
        """
        return await handle_event(self, event, context, concurrency, failure_stops)

    async def pause(self, *, for_seconds: Duration | None = None, reason: str = "") -> None:
        """Have no consumer start another call, in any process, until `resume`.

        Calls that have started go on, and calls may be deferred as before. Workers stay up, and
        say that they are paused. The pause is kept in the backend's store, so it outlives workers.
        Consumers of the Python 2 library know nothing of it. See `deferrable.aio.Queue.pause`.

        Args:
            for_seconds: then the queue is resumed by itself; None: when `resume` is called.
            reason: shown to those who ask why.

        Raises:
            InvalidOptions: `for_seconds` is not a duration over 0, or `reason` is not a text.
            Unsupported: the backend cannot be paused.
            BackendUnavailable: it may or may not be paused; pausing again is allowed.
        """
        await self.backend.queue.pause(for_seconds=for_seconds, reason=reason)

    async def resume(self) -> bool:
        """Have consumers start calls again, within a second.

        Returns:
            whether it was paused.

        Raises:
            Unsupported: the backend cannot be paused.
            BackendUnavailable: it may or may not be resumed; resuming again is allowed.
        """
        return await self.backend.queue.resume()

    async def find_pause(self) -> Pause | None:
        """Since when, how long and why the queue is paused; None: it is not.

        Raises:
            Unsupported: the backend cannot be paused.
        """
        return await self.backend.queue.find_pause()

    async def is_paused(self) -> bool:
        """Whether the queue is paused now; see `find_pause`."""
        return await self.find_pause() is not None

    def using(self, connection: object) -> AbstractContextManager[None]:
        """Have calls that are deferred in a ``with`` block be a part of your own transaction.

        They are pushed if and only if you commit it. Only for a queue in a SQLite file that also
        holds your tables, and for calls in the thread of the connection. If the connection commits
        by itself and no transaction is open, a call is pushed at once, as outside the block.

        Args:
            connection: a ``sqlite3.Connection``, or a Django or SQLAlchemy connection over one. It
                is neither committed nor rolled back nor closed.

        Raises:
            Unsupported: the queue is not in a SQLite file.
            InvalidOptions: the connection is to another file, or is none that can be used.
        """
        return self.backend.queue.using(connection)

    def errors(self) -> ErrorItems:
        """The items of the error queue, each once, oldest first where the broker knows.

        They are leased while the iteration lasts. Items that were neither requeued nor discarded
        stay in the error queue. Use it as a context manager to end it early.
        """
        return ErrorItems(self)

    async def close(self) -> None:
        """Close the backend and the stores. May be called twice."""
        await self.backend.close()
        if self._schedule_store is not None:
            await self._schedule_store.close()
        if self._debounce_store is not None:
            await self._debounce_store.close()
        if self._results is not None:
            await self._results.close()


async def _read_all(worker: Worker) -> None:
    async for _ in worker:
        pass


def _cancellation_of_caller() -> Callable[[], bool]:
    """Tells whether the running task is cancelled from now on."""
    task = asyncio.current_task()
    if task is None:
        return bool
    count, caller = task.cancelling(), ref(task)  # its error's traceback holds the attempt

    def is_cancelled() -> bool:
        task = caller()
        return task is not None and task.cancelling() > count

    return is_cancelled


def _redis_store(redis_client: Any, clock: Clock | None) -> DebounceStore:
    # Imported here, so that only users of it need the redis extra.
    from deferrable.aio.backend._redis.debounce import RedisDebounceStore

    return RedisDebounceStore(redis_client, clock=clock)
