"""The instance: jobs, a backend, and who wants to know.

Owns what users configure, and the methods of a consumer. It is given a backend, and names only one
adapter: the debounce store of a `redis_client`. `deferring` defers the jobs of an instance, and
`attempt` runs them; the blocking API drives the same two behind its own door.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from contextvars import copy_context
from inspect import getattr_static
from typing import Any, ParamSpec, TypeVar, overload
from weakref import ref

from deferrable._codec.refusals import short_repr
from deferrable._durations import Duration, optional_seconds_of
from deferrable._protection import Encryption, Protection, SigningKeys
from deferrable.aio._contract.closing import Closing
from deferrable.aio._contract.tasks import start_task, until_done
from deferrable.aio._engine.attempt import Attempt, outcome_of
from deferrable.aio._engine.emitting import emit
from deferrable.aio._engine.instance import Instance, Lifespan
from deferrable.aio._engine.running import AwaitingDoor, Door
from deferrable.aio._engine.task_door import TaskDoor
from deferrable.aio.backend.base import Backend
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import DebounceStore
from deferrable.aio.envelope import Envelope
from deferrable.aio.error_items import ErrorItems
from deferrable.aio.job import BoundJob, Job
from deferrable.aio.worker._life import Worker
from deferrable.errors import InvalidOptions
from deferrable.events import check_event_consumer
from deferrable.item import Item
from deferrable.metadata import MetadataProducerConsumer, check_namespace
from deferrable.options import (
    ErrorClasses,
    JobOptions,
    Seconds,
    check,
    error_class_tuple,
)
from deferrable.outcome import Outcome

__all__ = ["Deferrable", "check_is_instance"]

P = ParamSpec("P")
R = TypeVar("R")

_door = AwaitingDoor()


class Deferrable(Instance, Closing):
    """Defers calls to a backend and runs them from it, in asyncio.

    Without error classes, of the instance or of a job, no error is retried.

    Args:
        backend: where jobs travel; made by a backend factory of `deferrable.aio.backend`.
        redis_client: where debounce windows are kept instead of in the backend's own store: a
            ``redis.asyncio.Redis``, a ``redis.Redis`` or a URL. SQS has no store of its own.
        default_error_classes: errors that are retried for jobs that do not say.
        default_max_attempts: how often a job runs at most that does not say.
        serializer: ``pickle`` for any picklable argument; ``json`` on a broker that others can
            write to; ``classic`` while consumers of the Python 2 library live on the queue.
        accept: the serializers of items that are read; None: all. Of other items nothing is
            decoded; they go to the error queue as they are.
        signing_keys: secrets of at least 16 bytes each, shared by producers and consumers. The
            first one signs; an item is read only if one of them has signed it. To rotate, add the
            new key at the end everywhere, then put it first, then drop the old one.
        encryption: hides arguments and metadata from whoever can read the broker: what has
            ``encrypt`` and ``decrypt``, bytes to bytes, such as a ``cryptography.fernet.Fernet``.
        import_from: what may be imported to find the job that an item names, if it is not
            registered yet: packages or modules, such as ``("app.",)``; None: anything but what is
            private, or nothing if `accept` names neither ``pickle`` nor ``classic``. Either way
            only registered jobs are run.
        debounce_store: where debounce windows are kept instead, for any other store.
        lifespan: returns a context manager, async or plain, which a worker enters before its first
            pop and leaves after its last settlement; its value is ``current_attempt().state``.
        clock: what tells the time; None: the backend's clock.
        check_arguments: ``later`` refuses arguments that the job's function does not take, and with
            ``json`` those that do not fit its annotations. False: for a producer whose version of
            the function is older or newer than the consumers'.

    Raises:
        InvalidOptions: a default is out of range, a serializer is unknown, or a key is no key.
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
        )

    @property
    def redis_client(self) -> Any:
        """What was given as ``redis_client``; None: nothing was.

        Setting it keeps debounce windows there from the next ``later`` on.
        """
        return self._redis_client

    @redis_client.setter
    def redis_client(self, redis_client: Any) -> None:
        self.debounce_store = (
            None if redis_client is None else _redis_store(redis_client, self._clock)
        )
        self._redis_client = redis_client

    @overload
    def deferrable(self, function: Callable[P, R], /) -> Job[P, R]: ...

    @overload
    def deferrable(
        self,
        error_classes: ErrorClasses | None = None,
        max_attempts: int | None = None,
        delay_seconds: Seconds = 0,
        debounce_seconds: Seconds = 0,
        debounce_always_delay: bool = False,
        ttl_seconds: Seconds = 0,
        use_exponential_backoff: bool = True,
        *,
        name: str | None = None,
        timeout_seconds: Duration | None = None,
        backoff_jitter: bool = False,
        debounce_key: Callable[..., object] | None = None,
        message_group_id: str | None = None,
    ) -> Callable[[Callable[P, R]], Job[P, R]]: ...

    def deferrable(
        self,
        error_classes: Any = None,
        max_attempts: int | None = None,
        delay_seconds: Seconds = 0,
        debounce_seconds: Seconds = 0,
        debounce_always_delay: bool = False,
        ttl_seconds: Seconds = 0,
        use_exponential_backoff: bool = True,
        *,
        name: str | None = None,
        timeout_seconds: Duration | None = None,
        backoff_jitter: bool = False,
        debounce_key: Callable[..., object] | None = None,
        message_group_id: str | None = None,
    ) -> Any:
        """Register a function, so that it can be deferred. With or without parentheses.

        Args:
            error_classes: errors that are retried, an iterable of classes; None: the instance's
                default.
            max_attempts: how often it runs at most; None: the instance's default; 1: no retry.
            delay_seconds: how long after ``later`` it may run. All seconds may be a `timedelta`.
            debounce_seconds: the window within which equal calls are one run. For idempotent
                functions only: calls are skipped.
            debounce_always_delay: the first call of a window waits for the window's end, too.
            ttl_seconds: how long after ``later`` it may start at the latest; 0: without end.
            use_exponential_backoff: a retry waits 4, 6, 10, 18, ... up to 900 s; else it is
                available at once.
            name: what it is called in items, instead of ``module:qualname``; the consumer must
                register the same name.
            timeout_seconds: how long it may run. An async function is cancelled then; a plain one
                cannot be, it is reported by the event ``overrun``.
            backoff_jitter: a retry waits between half of the backoff and all of it.
            debounce_key: makes of the arguments what calls are compared by.
            message_group_id: on SQS, the group within which items keep their order (FIFO queues),
                or which has a fair share of the consumers (others).

        Returns:
            a `Job`, called like the function.

        Raises:
            InvalidOptions: an option is out of range, or two contradict each other.
            TypeError: an option is unknown, or what is decorated cannot be a job.
        """
        check_is_instance(self, Deferrable)
        function: Any = None
        classes = error_classes
        if isinstance(error_classes, _DESCRIPTORS) or (
            callable(error_classes) and not isinstance(error_classes, type)
        ):
            function, classes = error_classes, None
            _check_function(function)
        options = JobOptions(
            error_classes=error_class_tuple("error_classes", classes),
            max_attempts=max_attempts,
            delay_seconds=delay_seconds,
            debounce_seconds=debounce_seconds,
            debounce_always_delay=debounce_always_delay,
            debounce_key=debounce_key,
            ttl_seconds=ttl_seconds,
            use_exponential_backoff=use_exponential_backoff,
            timeout_seconds=optional_seconds_of("timeout_seconds", timeout_seconds),
            backoff_jitter=backoff_jitter,
            message_group_id=message_group_id,
        )
        check(options, can_debounce=self.debounce_store is not None)
        self.serializer.dump_error_classes(options.error_classes)
        if name is not None and self.serializer.name == "classic":
            raise InvalidOptions(
                f"name={name!r} cannot travel in a classic item, which holds a reference to the "
                "function; leave it out, or use another serializer"
            )

        def register(function: Callable[..., Any]) -> Job[..., Any]:
            _check_function(function)
            job = Job(self, function, name, options)
            self.registry.add(job)
            job.lend_later()
            return job

        return register if function is None else register(function)

    async def run_once(self) -> Outcome | None:
        """Pop one item and make one attempt at it, keeping its lease meanwhile.

        Cancelling it loses nothing: an async job is cancelled and its item released, no attempt
        counted; a plain function, which cannot be cancelled, is waited for and settled.

        Returns:
            what became of the attempt; None when the queue had nothing.

        Raises:
            BackendError: the broker could not be reached, or refused the pop or the settlement. It
                is not tried again: the caller decides. What was popped comes back after its lease.
        """
        envelope, item = await self.backend.queue.pop()
        return await self.process(envelope, item)

    async def process(self, envelope: Envelope | None, item: Item | None) -> Outcome | None:
        """Make one attempt at an item that was popped already; see `run_once`.

        Args:
            envelope: as ``queue.pop()`` returned it; None: there was nothing.
            item: likewise.
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
        except asyncio.CancelledError:
            attempt.control.stop("cancelled")
            await until_done(running)
            if running.cancelled():
                # Before its first step, by a loop that is being shut down.
                await attempt.give_back()
            else:
                outcome_of(running.result())
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
        """Tell who listens that a pop found nothing."""
        await emit(door, self.event_consumers, "empty", None, None)

    def worker(
        self,
        concurrency: int = 100,
        *,
        threads: int | None = None,
        prefetch: int = 0,
        grace_seconds: Duration = 30.0,
    ) -> Worker:
        """A worker over this instance's queue; see `Worker`.

        Args:
            concurrency: how many jobs run at once.
            threads: how many of them may be plain functions; None: 32.
            prefetch: how many items may be popped beyond the free slots while jobs end quickly.
            grace_seconds: how long running jobs may go on when the worker stops.
        """
        return Worker(
            [self],
            concurrency=concurrency,
            threads=threads,
            prefetch=prefetch,
            grace_seconds=grace_seconds,
        )

    def errors(self) -> ErrorItems:
        """The items of the error queue, each once, oldest first where the broker knows.

        They are leased while the iteration lasts; what was neither requeued nor discarded by its
        end stays in the error queue. Use it as a context manager to end it early.
        """
        return ErrorItems(self)

    def register_event_consumer(self, consumer: object) -> None:
        """Have the ``on_EVENT(self, item)`` methods of an object called, plain or async.

        Consumers are called in the order of registration, after what the event names. One that
        raises is logged and changes nothing.

        Raises:
            ValueError: it has a method called ``on_`` something that is no event.
        """
        check_event_consumer(consumer)
        self.event_consumers = (*self.event_consumers, consumer)

    def clear_event_consumers(self) -> None:
        """Forget every event consumer."""
        self.event_consumers = ()

    def register_metadata_producer_consumer(
        self, producer_consumer: MetadataProducerConsumer
    ) -> None:
        """Have an object produce metadata for every item, and consume it before every job.

        Raises:
            ValueError: its namespace is already in use.
        """
        check_namespace(producer_consumer, self.metadata_producer_consumers)
        self.metadata_producer_consumers = (*self.metadata_producer_consumers, producer_consumer)

    def clear_metadata_producer_consumers(self) -> None:
        """Forget every metadata producer and consumer."""
        self.metadata_producer_consumers = ()

    async def close(self) -> None:
        """Close the backend and the debounce store. Twice is harmless."""
        await self.backend.close()
        if self._debounce_store is not None:
            await self._debounce_store.close()


def _cancellation_of_caller() -> Callable[[], bool]:
    """What tells whether the running task is cancelled from now on."""
    task = asyncio.current_task()
    if task is None:
        return bool
    count, caller = task.cancelling(), ref(task)  # its error's traceback holds the attempt

    def is_cancelled() -> bool:
        task = caller()
        return task is not None and task.cancelling() > count

    return is_cancelled


def _redis_store(redis_client: Any, clock: Clock | None) -> DebounceStore:
    # Imported here, so that only those who ask for it need the redis extra.
    from deferrable.aio.backend._redis.debounce import RedisDebounceStore

    return RedisDebounceStore(redis_client, clock=clock)


def check_is_instance(given: object, cls: type) -> None:
    """Raise a TypeError if a method was looked up on the class, so that `given` is no instance."""
    if not isinstance(given, cls):
        raise TypeError(
            f"{cls.__name__}.deferrable was called on the class, with {short_repr(given)}; make an "
            f"instance, `d = {cls.__name__}(backend)`, and write `@d.deferrable`"
        )


_DESCRIPTORS = (classmethod, staticmethod, property)


def _check_function(function: object) -> None:
    if isinstance(function, _DESCRIPTORS):
        kind = type(function).__name__
        remedy = (
            "decorate a plain one" if kind == "property" else f"put @{kind} above this decorator"
        )
        raise TypeError(f"a job is a function, got {function!r:.200}; {remedy}")
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"a job is a function, got {function!r:.200}")
    if isinstance(function, Job | BoundJob):
        raise TypeError(f"{function!r:.200} is a job already; decorate it once")
    call = getattr_static(type(function), "__call__", None)
    if _is_generator(function) or _is_generator(call):
        raise TypeError(
            f"{function!r:.200} is a generator function, and calling it would run nothing; "
            "return a value instead of yielding"
        )


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
