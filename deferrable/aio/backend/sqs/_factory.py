"""The SQS backend: how its queues are made.

Owns the factory: where its queues are, how a missing one is created, and the link that they share.
"""

from collections.abc import Mapping

from deferrable._codec.refusals import kind_of
from deferrable._durations import Duration
from deferrable._one_process import OneProcess
from deferrable.aio.backend.base import Backend, BackendFactory
from deferrable.aio.backend.sqs._foreign import OnForeign
from deferrable.aio.backend.sqs._link import SQSLinks
from deferrable.aio.backend.sqs._names import (
    FIFO_SUFFIX,
    Names,
    check_endpoint,
    check_owner,
    endpoint_in,
    error_url_beside,
    name_in,
    names_beside,
    names_for,
    region_in,
)
from deferrable.aio.backend.sqs._queue import SQSFifoQueue, SQSQueue
from deferrable.aio.backend.sqs._queue_attributes import (
    AttributeValue,
    of_error_queue,
    of_queue,
)
from deferrable.aio.backend.sqs._queue_settings import queue_settings
from deferrable.aio.backend.sqs._reading import Source
from deferrable.aio.backend.sqs._remote import RemoteQueue
from deferrable.aio.backend.sqs._retries import RetryWay
from deferrable.aio.backend.sqs._s3_store import S3Store
from deferrable.aio.backend.sqs._settings import AWSSettings
from deferrable.aio.clock import Clock
from deferrable.errors import InvalidOptions

__all__ = ["S3Store", "SQSBackendFactory", "SQSFifoQueue", "SQSQueue"]


class SQSBackendFactory(BackendFactory, OneProcess):
    """Creates backends in SQS.

    No request is sent before a queue is first used; a missing queue is created then. Its name is
    ``deferrable``, ``deferrable_GROUP`` or ``deferrable_GROUP_SUFFIX``, that of its error queue
    ends in ``_error``; ``.fifo`` at the end of a group makes both FIFO queues.

    Args:
        sqs_connection: endpoint and credentials: nothing, for the environment's configuration
            (``AWS_ENDPOINT_URL_SQS``, ``AWS_ENDPOINT_URL``, ``AWS_DEFAULT_REGION``,
            ``AWS_REGION``); a client of aiobotocore or boto3 for SQS; a callable that returns one,
            or an async context manager of one. Only its endpoint, region, credentials, verification
            and proxies are used; it is never closed.
        visibility_timeout: how many seconds a popped item stays hidden without a touch, from 1 to
            43,200; parts of seconds are rounded up.
        wait_time: how many seconds a pop waits for an item, from 0 to 20. An error queue's pops
            wait for 1 at most.
        name_suffix: a part of each queue's name, such as the environment.
        queue_url: where the queue is; it is neither looked up nor created. Such a factory serves
            one group. A region in the URL overrides `sqs_connection` and the environment; its host
            is the endpoint, unless those name one.
        error_queue_url: the same of its error queue. None, beside a `queue_url`: the queue of the
            same account and host whose name has ``_error`` at its end. A consumer takes nothing
            before it knows that its error queue exists.
        create: whether a missing queue is created; if not, its first use fails.
        tags: for queues that are created.
        retry: how a failed item comes back. ``behind``: a copy is sent, on a FIFO queue to the end
            of its group, and the original is deleted. ``block``, for FIFO queues: the message
            itself waits for its backoff, and its group waits for it. ``visibility``: likewise on
            every queue, and after the last attempt SQS moves it by the queue's redrive policy.
        max_receive_count: SQS moves an item that was received more often to the error queue, if it
            was created here. Releases count, too: SQS cannot distinguish them from crashes. None:
            20; with ``retry="visibility"`` 5, as this is the number of attempts then.
        max_lease_seconds: how long after the pop heartbeats stop; None: SQS's own maximum.
        compress_over_bytes: the bodies of longer items are compressed; None: never.
        large_items: the store for items that are too large for a message; None: they are refused.
        offload_over_bytes: larger items go there, too; None: only those that are too large.
        region_name: overrides the region of `sqs_connection` and of the environment; None: as they
            say.
        endpoint_url: overrides the endpoint of `sqs_connection`, of the environment and of
            `queue_url`, such as ``http://localhost:4566`` for an SQS on this machine.
        foreign: called for each message that holds no item: takes a `ForeignMessage`, and returns
            a ``job.call(...)`` to run, a list of them, or None if it does not know the message,
            which then goes to the error queue. It must be quick: it runs on the event loop. None:
            all such messages go to the error queue.
        queue_attributes: for queues that are created, by the names that SQS has for them, such as
            ``KmsMasterKeyId``. The error queue has those of encryption and throughput as well. A
            queue that exists is not changed; if it differs, the log says so.
        error_queue_attributes: the same for error queues only.
        owner_account_id: the AWS account that has the queues, if it is another one; they are not
            created then.
        clock: the source of time; None: the machine's clock.

    Raises:
        InvalidOptions: a value is out of range, or `sqs_connection` cannot be used.
    """

    def __init__(
        self,
        sqs_connection: object = None,
        visibility_timeout: Duration = 30,
        wait_time: Duration = 20,
        name_suffix: str | None = None,
        *,
        queue_url: str | None = None,
        error_queue_url: str | None = None,
        create: bool = True,
        tags: Mapping[str, str] | None = None,
        retry: RetryWay = "behind",
        max_receive_count: int | None = None,
        max_lease_seconds: Duration | None = None,
        compress_over_bytes: float | None = None,
        large_items: S3Store | None = None,
        offload_over_bytes: float | None = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        foreign: OnForeign | None = None,
        queue_attributes: Mapping[str, AttributeValue] | None = None,
        error_queue_attributes: Mapping[str, AttributeValue] | None = None,
        owner_account_id: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = queue_settings(
            retry=retry,
            visibility_timeout=visibility_timeout,
            wait_time=wait_time,
            max_receive_count=max_receive_count,
            max_lease_seconds=max_lease_seconds,
            compress_over_bytes=compress_over_bytes,
            offload_over_bytes=offload_over_bytes,
            large_items=large_items,
            clock=clock,
            foreign=foreign,
        )
        if queue_url is not None and error_queue_url is None:
            error_queue_url = error_url_beside(queue_url)
        self._urls = (queue_url, error_queue_url)
        url = queue_url or error_queue_url
        _check_regions(region_name, queue_url, error_queue_url)
        check_endpoint(endpoint_url)
        settings = AWSSettings(
            "sqs",
            sqs_connection,
            region_in(url) or region_name,
            endpoint_url,
            fallback_endpoint_url=endpoint_in(url),
        )
        self._links = SQSLinks(settings)
        self._attributes = of_queue(queue_attributes)
        self._error_attributes = of_error_queue(queue_attributes, error_queue_attributes)
        self._owner_account_id = check_owner(owner_account_id)
        _check_given(url, self._attributes or self._error_attributes, owner_account_id)
        self._suffix = name_suffix
        self._is_creating = create and owner_account_id is None
        self._tags = _checked_tags(tags)
        self._group_of_url: tuple[str | None] | None = None

    def _create_backend(self, group: str | None, name: str) -> Backend:
        url, error_url = self._urls
        names = self._names(group, url)
        _check_error_queue(names, url, error_url)
        if self._settings.retry == "block" and not names.are_fifo:
            raise InvalidOptions(
                f'retry="block" has the group of an item wait, and {names.queue} has no order; '
                'end its name in ".fifo", or use retry="visibility"'
            )
        remote_errors = self._remote(names.error_queue, error_url, None)
        remote = self._remote(names.queue, url, remote_errors)
        make = SQSFifoQueue if names.are_fifo else SQSQueue
        source = Source(remote.name, self._settings.retry, self._settings.max_receive_count)
        errors = make(remote_errors, self._settings.of_error_queue(), source=source)
        return Backend(group, make(remote, self._settings, errors=errors), errors)

    def _names(self, group: str | None, url: str | None) -> Names:
        if url is None:
            return names_for(group, self._suffix)
        if self._group_of_url not in (None, (group,)):
            raise InvalidOptions(
                f"queue_url={url!r} is the queue of one group, and this factory already has a "
                f"backend of another group than {group!r}; make another factory"
            )
        self._group_of_url = (group,)
        names = names_beside(name_in(url))
        if group is not None and group.endswith(FIFO_SUFFIX) and not names.are_fifo:
            raise InvalidOptions(
                f"the group {group!r} asks for a FIFO queue, and queue_url={url!r} is a standard "
                "queue, which keeps no order; give the URL of a FIFO queue, or another group"
            )
        return names

    def _remote(self, name: str, url: str | None, errors: RemoteQueue | None) -> RemoteQueue:
        return RemoteQueue(
            self._links,
            name,
            url,
            is_created=self._is_creating,
            tags=self._tags,
            errors=errors,
            max_receive_count=self._settings.max_receive_count,
            attributes=self._error_attributes if errors is None else self._attributes,
            owner_account_id=self._owner_account_id,
        )


def _checked_tags(tags: object) -> dict[str, str]:
    """A copy of `tags`. The client checks no request, and SQS would name neither tag nor queue."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidOptions(
            f'tags is a mapping of texts to texts, such as {{"team": "jobs"}}, got {kind_of(tags)}'
        )
    for name, value in tags.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise InvalidOptions(
                f"tags has {value!r:.200} for {name!r:.200}; a tag and its value are texts"
            )
    return dict(tags)


def _check_given(url: str | None, attributes: object, owner_account_id: str | None) -> None:
    """Refuse what has no meaning for a queue that is given by its URL."""
    if url is None:
        return
    if attributes:
        raise InvalidOptions(
            f"a queue given by its URL, {url!r}, is used as it is; leave out queue_attributes= and "
            "error_queue_attributes=, which are for queues that are created"
        )
    if owner_account_id is not None:
        raise InvalidOptions(
            f"the URL {url!r} names the account of the queue; leave out owner_account_id="
        )


def _check_error_queue(names: Names, url: str | None, error_url: str | None) -> None:
    """Refuse an error queue that could take no failed job, or would have it run again."""
    if error_url is None:
        return
    if url is not None and url.rstrip("/") == error_url.rstrip("/"):
        raise InvalidOptions(
            f"queue_url and error_queue_url are both {url!r}, so each job that fails for good "
            "would run again; give the URL of another queue for errors"
        )
    if name_in(error_url).endswith(FIFO_SUFFIX) != names.are_fifo:
        kinds = ("a FIFO queue", "a standard queue")
        kind, other = kinds if names.are_fifo else reversed(kinds)
        raise InvalidOptions(
            f"{names.queue!r} is {kind}, and error_queue_url={error_url!r} is {other}; SQS needs "
            f"{kind} for its errors, too"
        )


def _check_regions(
    region_name: str | None, queue_url: str | None, error_queue_url: str | None
) -> None:
    regions = {
        "region_name": region_name,
        "queue_url": region_in(queue_url),
        "error_queue_url": region_in(error_queue_url),
    }
    named = {name: region for name, region in regions.items() if region is not None}
    if len(set(named.values())) > 1:
        shown = ", ".join(f"{name} names {region}" for name, region in named.items())
        raise InvalidOptions(f"{shown}; SQS needs all of them in one region")
