"""The instance for callers that cannot await: the classic API.

Owns the list of its verbs. It decides nothing: the core holds the configuration, and ``run_once``
runs the core's own attempt in the calling thread.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from typing import Any

from deferrable._codec.contract import Serializer
from deferrable._durations import Duration
from deferrable._protection import Encryption, SigningKeys
from deferrable.aio import deferrable as awaiting
from deferrable.aio._decorating import Decorating
from deferrable.aio._engine.attempt import Attempt
from deferrable.aio._engine.calls import Wanted
from deferrable.aio._engine.handed_order import FailureStops
from deferrable.aio._engine.instance import Instance, Lifespan
from deferrable.aio._engine.running import AttemptDoor, blocking_driver
from deferrable.aio._scheduling import Scheduling
from deferrable.aio.backend import base
from deferrable.aio.clock import Clock
from deferrable.aio.debounce import DebounceStore
from deferrable.aio.envelope import Envelope
from deferrable.aio.middleware import Middleware
from deferrable.aio.peeked import PeekedCall
from deferrable.aio.results import ResultStore
from deferrable.aio.schedules import ScheduleStore
from deferrable.handles import CallHandle, CallStatus, CancelAnswer
from deferrable.item import Item
from deferrable.metadata import MetadataProducerConsumer
from deferrable.options import ErrorClasses
from deferrable.outcome import Outcome
from deferrable.sync._door import refuse_portal_thread
from deferrable.sync._facade import ClosingFacade, blocking, core_of
from deferrable.sync._portal import portal
from deferrable.sync.backend import Backend
from deferrable.sync.error_items import ErrorItems
from deferrable.sync.worker import Worker

__all__ = ["Deferrable"]


class Deferrable(ClosingFacade[awaiting.Deferrable], Decorating, Scheduling):
    """Defers calls to a backend and runs them from it, in the calling thread.

    Without error classes, of the instance or of a job, no error is retried.

    Args:
        backend: the queue of the jobs, from a backend factory of `deferrable.backend`.
        redis_client: where debounce windows are kept instead of in the backend's own store: a
            ``redis.Redis``, a ``redis.asyncio.Redis`` or a URL. SQS has no store.
        default_error_classes: errors that are retried, for jobs without ``error_classes``.
        default_max_attempts: how often a job runs at most, for jobs without ``max_attempts``.
        serializer: ``pickle`` for any picklable argument; ``json`` on a broker that others can
            write to; ``classic`` while consumers of the Python 2 library use the queue.
        accept: the serializers of items that are read; see `deferrable.aio.Deferrable`, as for the
            next three.
        signing_keys: secrets that sign new items, and of which one must have signed what is read.
        encryption: hides arguments and metadata from readers of the broker.
        import_from: what may be imported to find the job that an item names.
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
        backend: Backend | base.Backend,
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
        super().__init__(
            awaiting.Deferrable(
                core_of(backend),
                redis_client,
                default_error_classes,
                default_max_attempts,
                serializer=serializer,
                accept=accept,
                signing_keys=signing_keys,
                encryption=encryption,
                import_from=import_from,
                debounce_store=debounce_store,
                lifespan=lifespan,
                clock=clock,
                check_arguments=check_arguments,
                results=results,
                keep_results_seconds=keep_results_seconds,
                schedule_store=schedule_store,
            )
        )
        self._backend = _blocking_backend(backend)

    @property
    def backend(self) -> Backend:
        """The queue of the jobs; read at each ``later``."""
        return self._backend

    @backend.setter
    def backend(self, backend: Backend | base.Backend) -> None:
        self._backend = _blocking_backend(backend)
        self._core.backend = core_of(backend)

    @property
    def serializer(self) -> Serializer:
        """The serializer of new items, for the current backend."""
        return self._core.serializer

    @property
    def clock(self) -> Clock:
        """The given clock, or the clock of the current backend."""
        return self._core.clock

    @property
    def debounce_store(self) -> DebounceStore | None:
        """Where debounce windows are kept; read at each ``later``."""
        return self._core.debounce_store

    @debounce_store.setter
    def debounce_store(self, store: DebounceStore | None) -> None:
        self._core.debounce_store = store

    @property
    def results(self) -> ResultStore | None:
        """Where results are kept; see `deferrable.aio.Deferrable.results`."""
        return self._core.results

    @property
    def schedule_store(self) -> ScheduleStore | None:
        """Where periodic jobs are kept."""
        return self._core.schedule_store

    @property
    def redis_client(self) -> Any:
        """The given ``redis_client``; see `deferrable.aio.Deferrable.redis_client`."""
        return self._core.redis_client

    @redis_client.setter
    def redis_client(self, redis_client: Any) -> None:
        self._core.redis_client = redis_client

    @property
    def default_error_classes(self) -> tuple[type[BaseException], ...] | None:
        """Errors that are retried, for jobs without ``error_classes``; read at each ``later``."""
        return self._core.default_error_classes

    @default_error_classes.setter
    def default_error_classes(self, classes: ErrorClasses | None) -> None:
        self._core.default_error_classes = classes

    @property
    def default_max_attempts(self) -> int:
        """How often a job without ``max_attempts`` runs at most; read at each ``later``."""
        return self._core.default_max_attempts

    @default_max_attempts.setter
    def default_max_attempts(self, attempts: int) -> None:
        self._core.default_max_attempts = attempts

    def _instance_of_jobs(self) -> Instance:
        return self._core

    def run_once(self) -> Outcome | None:
        """Pop one item and make one attempt at it, keeping its lease meanwhile.

        Plain jobs, event handlers and metadata consumers run in this thread; async jobs run on the
        portal's. An interrupt (Ctrl-C) releases the item, counts no attempt, and is raised again.

        Returns:
            the outcome of the attempt; None if the queue was empty or paused.

        Raises:
            BackendError: the broker could not be reached, or refused the pop or the settlement. It
                is not retried: the caller decides. A popped item comes back after its lease.
            CalledFromEventLoop: this is the portal's own thread, which would wait for itself.
        """
        refuse_portal_thread("await run_once() of deferrable.aio.Deferrable")
        envelope, item = self._backend.queue.pop()
        return self.process(envelope, item)

    def process(self, envelope: Envelope | None, item: Item | None) -> Outcome | None:
        """Make one attempt at a popped item; see `run_once`.

        Args:
            envelope: from ``queue.pop()``; None if the queue was empty.
            item: from ``queue.pop()``.
        """
        instead = "await process(...) of deferrable.aio.Deferrable"
        if not envelope or item is None:
            blocking_driver().drive(self._core.emit_empty, instead)
            return None
        attempts: list[Attempt] = []

        def attempt(door: AttemptDoor) -> Any:
            attempts.append(Attempt(self._core, door, envelope, item, copy_context()))
            return attempts[0].run()

        outcome: Outcome = blocking_driver().drive(attempt, instead)
        try:
            attempts[0].raise_error()
            return outcome
        finally:
            del outcome  # an error's traceback holds this frame

    @contextmanager
    def running(
        self,
        concurrency: int = 100,
        *,
        threads: int | None = None,
        prefetch: int = 0,
        grace_seconds: Duration = 30.0,
        report: bool = True,
    ) -> Iterator[Worker]:
        """Have a worker run in threads beside the block; see `deferrable.aio.Deferrable.running`.

        Args:
            concurrency: see `worker`.
            threads: see `worker`.
            prefetch: see `worker`.
            grace_seconds: see `worker`.
            report: see `worker`.
        """
        with self:
            worker = self.worker(
                concurrency,
                threads=threads,
                prefetch=prefetch,
                grace_seconds=grace_seconds,
                report=report,
            )
            reading = threading.Thread(
                target=_read_all, args=(worker,), name="deferrable-outcomes", daemon=True
            )
            with worker:
                reading.start()
                try:
                    yield worker
                finally:
                    if not worker.health.is_stopping:  # a second call would end the grace period
                        worker.stop()
                    reading.join()

    def handle_sqs_event(
        self,
        event: object,
        context: object = None,
        *,
        concurrency: int = 10,
        failure_stops: FailureStops = "batch",
    ) -> dict[str, list[dict[str, str]]]:
        """Run the items of an event of AWS Lambda; see `deferrable.aio.Deferrable`.

        Plain jobs run in threads, and async jobs on the portal's.
        """
        refuse_portal_thread("await handle_sqs_event(...) of deferrable.aio.Deferrable")
        handling = self._core.handle_sqs_event(
            event, context, concurrency=concurrency, failure_stops=failure_stops
        )
        return portal().run(handling)

    def worker(
        self,
        concurrency: int = 100,
        *,
        threads: int | None = None,
        prefetch: int = 0,
        grace_seconds: Duration = 30.0,
        report: bool = True,
    ) -> Worker:
        """A worker over this instance's queue; see `deferrable.aio.Deferrable.worker`."""
        core = self._core.worker(
            concurrency,
            threads=threads,
            prefetch=prefetch,
            grace_seconds=grace_seconds,
            report=report,
        )
        return Worker(core)

    def call(self, call_id: str) -> CallHandle:
        """A handle on a call; see `deferrable.aio.Deferrable.call`."""
        return self._core.call(call_id)

    def peek(
        self,
        count: int = 100,
        *,
        state: CallStatus | None = None,
        job: object = None,
        ids: Iterable[str] = (),
    ) -> list[PeekedCall]:
        """Look at calls without taking them; see `deferrable.aio.Deferrable.peek`."""
        wanted = Wanted(state, job, ids)
        return self._core.calls().drive(
            lambda here: here.peek(count, wanted),
            "await peek(...) of deferrable.aio.Deferrable",
        )

    def cancel_calls(
        self, job: object, *, state: CallStatus | None = None, stop: bool = False
    ) -> dict[CancelAnswer, int]:
        """Cancel all calls of a job; see `deferrable.aio.Deferrable.cancel_calls`."""
        wanted = Wanted(state, job)
        return self._core.calls().drive(
            lambda here: here.cancel_calls(wanted, stop=stop),
            "await cancel_calls(...) of deferrable.aio.Deferrable",
        )

    pause = blocking(awaiting.Deferrable.pause)
    resume = blocking(awaiting.Deferrable.resume)
    find_pause = blocking(awaiting.Deferrable.find_pause)
    is_paused = blocking(awaiting.Deferrable.is_paused)

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
        return self._core.using(connection)

    def errors(self) -> ErrorItems:
        """The items of the error queue; see `deferrable.aio.Deferrable.errors`."""
        return ErrorItems(self._core.errors())

    def register_event_consumer(self, consumer: object) -> None:
        """Call an object's handlers from now on; see `deferrable.aio.Deferrable`."""
        self._core.register_event_consumer(consumer)

    def clear_event_consumers(self) -> None:
        """Forget every event consumer."""
        self._core.clear_event_consumers()

    def register_metadata_producer_consumer(
        self, producer_consumer: MetadataProducerConsumer
    ) -> None:
        """Let an object produce and consume metadata; see `deferrable.aio.Deferrable`."""
        self._core.register_metadata_producer_consumer(producer_consumer)

    def clear_metadata_producer_consumers(self) -> None:
        """Forget every metadata producer and consumer."""
        self._core.clear_metadata_producer_consumers()

    def register_middleware(self, middleware: Middleware) -> None:
        """Enter an object's context managers from now on; see `deferrable.aio.Deferrable`."""
        self._core.register_middleware(middleware)

    def clear_middleware(self) -> None:
        """Forget all middleware."""
        self._core.clear_middleware()

    @property
    def middleware(self) -> tuple[Middleware, ...]:
        """The registered middleware, the outermost first."""
        return self._core.middleware


def _read_all(worker: Worker) -> None:
    for _ in worker:
        pass


def _blocking_backend(backend: Backend | base.Backend) -> Backend:
    return backend if isinstance(backend, Backend) else Backend(backend)
