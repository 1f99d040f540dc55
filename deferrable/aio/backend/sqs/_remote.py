"""One queue in SQS, as SQS knows it: its URL, and the requests about it.

Owns its URL (given, looked up by its name, or created if it is missing), how large its messages
may be, and the count of its requests.

No request is sent before the queue is first used. A queue given by its URL is never looked up or
created. A deleted queue is created again only with a line in the log.
"""

import asyncio
import json
import logging
import math
import threading
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, TypeVar

from deferrable._fork import on_fork
from deferrable.aio.backend.sqs._errors import Refused
from deferrable.aio.backend.sqs._link import Answer, SQSLinks
from deferrable.aio.backend.sqs._names import FIFO_SUFFIX, name_in
from deferrable.aio.backend.sqs._queue_attributes import differences
from deferrable.aio.clock import SystemClock
from deferrable.errors import BackendError, BackendUnavailable

__all__ = ["RemoteQueue"]

_ERROR_RETENTION_SECONDS = 14 * 24 * 3600
"""The longest that SQS allows. Source: SQS API reference, CreateQueue, MessageRetentionPeriod."""

_HIGH_THROUGHPUT = {
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}
"""Its quota is for each message group, not for the queue. It costs nothing more.

Source: SQS developer guide, high throughput for FIFO queues.
"""

_NEW_SECONDS = 3.0
"""A queue that was just created may be unknown to some of the servers for a second.

Source: SQS API reference, CreateQueue.
"""
_NEW_PAUSE_SECONDS = 0.25

_MOST_BYTES = "MaximumMessageSize"
_OWNER = "QueueOwnerAWSAccountId"

T = TypeVar("T")

_logger = logging.getLogger("deferrable")
_monotonic = SystemClock.monotonic


class RemoteQueue:
    """A queue in SQS.

    Args:
        name: its name; not looked up if `url` is given.
        url: its URL; None: look it up by its name.
        is_created: whether a missing queue is created; if not, it is an error.
        tags: for a created queue.
        errors: where SQS itself moves messages that were received too often; None: this is an error
            queue.
        max_receive_count: how often a message may be received.
        attributes: more attributes of a created queue.
        owner_account_id: the AWS account that has the queue; None: that of the credentials.

    Attributes:
        most_bytes: how many bytes one message may have; None: unknown.
    """

    def __init__(
        self,
        links: SQSLinks,
        name: str,
        url: str | None = None,
        *,
        is_created: bool = True,
        tags: Mapping[str, str] | None = None,
        errors: "RemoteQueue | None" = None,
        max_receive_count: int = 0,
        attributes: Mapping[str, str] | None = None,
        owner_account_id: str | None = None,
    ) -> None:
        self.links = links
        self.name = name if url is None else name_in(url)
        self._given_url = self._url = None if url is None else url.rstrip("/")
        self._is_created = is_created
        self._tags = dict(tags or {})
        self._wanted = dict(attributes or {})
        self._owner = {} if owner_account_id is None else {_OWNER: owner_account_id}
        self._errors = errors
        self._max_receive_count = max_receive_count
        self._creation_time = -math.inf
        self._was_found = url is not None
        self._is_checked = self._is_asked = False
        self.most_bytes: int | None = None
        self._request_count = 0
        self._count_lock = threading.Lock()
        on_fork(self._reset_after_fork)

    def __repr__(self) -> str:
        return self.name

    @property
    def identity(self) -> Hashable:
        """Equal for two objects that are known to mean the same queue. No I/O."""
        where = self.links.settings.where if self._given_url is None else self._given_url
        return where, self.name

    @property
    def request_count(self) -> int:
        """How many requests this process has sent about it, including repeated ones."""
        return self._request_count

    async def check(self) -> None:
        """Find the queue, or create it, and learn how large its messages may be; only once.

        Raises:
            BackendError: there is no queue. If the credentials do not allow the check, the log says
                so.
        """
        if self._is_checked:
            return
        try:
            if self._url is None:
                await self._find()
            await self.learn_most_bytes()
        except Refused as error:
            if error.is_missing_queue:
                raise BackendError(
                    f"there is no queue at {self._given_url or self.name}, which must hold failed "
                    "jobs; create it, or give another error_queue_url="
                ) from error
            if error.is_for_any_entry and not error.is_denied:
                raise  # nothing else would work, either
            _logger.info("cannot check whether queue %s exists: %s", self, error)
        self._is_checked = True

    async def learn_most_bytes(self) -> None:
        """Ask how large messages may be, once.

        Raises:
            Refused: SQS does not say it; `most_bytes` stays None.
        """
        if self._is_asked:
            return
        answer, _ = await self.call("GetQueueAttributes", AttributeNames=[_MOST_BYTES])
        self._is_asked = True
        most = answer.get("Attributes", {}).get(_MOST_BYTES)
        self.most_bytes = int(most) if most else None

    async def locate(self) -> str:
        """What SQS calls the queue, in all accounts and regions."""
        answer, _ = await self.call("GetQueueAttributes", AttributeNames=["QueueArn"])
        return self._arn_in(answer)

    async def call(self, operation: str, **parameters: Any) -> tuple[Answer, bool]:
        """Make a request about this queue; see `SQSLink.call`."""
        return await self._perform(
            lambda complete: self.links.here().call(
                operation, complete, self.name, self._note_request
            ),
            parameters,
        )

    async def receive(self, **parameters: Any) -> Answer:
        """Receive messages; see `SQSLink.poll`."""
        return await self._perform(
            lambda complete: self.links.here().poll(complete, self.name, self._note_request),
            parameters,
        )

    async def _perform(
        self, send: Callable[[Mapping[str, Any]], Awaitable[T]], parameters: Mapping[str, Any]
    ) -> T:
        while True:
            url = self._url or await self._find()
            try:
                return await send({**parameters, "QueueUrl": url})
            except Refused as error:
                if not error.is_missing_queue:
                    raise
                if _monotonic() - self._creation_time > _NEW_SECONDS:
                    # It was deleted; the next use looks again.
                    self._url, self._is_asked = self._given_url, False
                    raise
            await asyncio.sleep(_NEW_PAUSE_SECONDS)

    def _note_request(self) -> None:
        with self._count_lock:
            self._request_count += 1

    def _reset_after_fork(self) -> None:
        self._count_lock = threading.Lock()

    # Finding and creating.

    async def _find(self) -> str:
        async with self.links.here().finding:
            if self._url is None:
                self._url = await self._look_up()
                if self._url is None:
                    self._url = await self._create()
                else:
                    await self._compare(self._url)
                self._was_found = True
            return self._url

    async def _compare(self, url: str) -> None:
        """Log once how a queue that exists differs from what was asked for; it is not changed."""
        if not self._wanted or self._was_found:
            return
        try:
            answer = await self._ask(
                "GetQueueAttributes", QueueUrl=url, AttributeNames=[*self._wanted]
            )
        except Refused as error:
            _logger.info("cannot check the attributes of queue %s: %s", self, error)
            return
        different = differences(self._wanted, answer.get("Attributes", {}))
        if different:
            _logger.warning(
                "queue %s exists with other attributes, and is left as it is: %s; change the queue "
                "or the settings",
                self,
                "; ".join(different),
            )

    async def _look_up(self) -> str | None:
        try:
            answer = await self._ask("GetQueueUrl", QueueName=self.name, **self._owner)
        except Refused as error:
            if not error.is_missing_queue:
                raise
            if not self._is_created:
                owner = self._owner.get(_OWNER)
                reason = "create=False" if owner is None else f"it must be in account {owner}"
                raise BackendError(
                    f"there is no queue {self.name!r} in SQS, and {reason}; create it, or check "
                    "region, account and name_suffix"
                ) from error
            return None
        return self._url_in(answer)

    def _url_in(self, answer: Answer) -> str:
        url = answer.get("QueueUrl")
        if not url:
            raise BackendUnavailable(
                f"the answer to a look-up of {self} contains no URL; does SQS answer at this "
                "endpoint?"
            )
        return str(url)

    async def _create(self) -> str:
        parameters: dict[str, Any] = {
            "QueueName": self.name,
            "Attributes": await self._attributes(),
        }
        if self._tags:
            parameters["tags"] = self._tags
        try:
            answer = await self._ask("CreateQueue", **parameters)
        except Refused as error:
            # Somebody else has created it just now, with other settings.
            url = await self._look_up()
            if url is None:
                raise BackendError(
                    f"there is no queue {self.name!r} in SQS, and it cannot be created: {error}"
                ) from error
            return url
        self._creation_time = _monotonic()
        if self._was_found:
            _logger.warning("queue %s was deleted, and is created again; its items are lost", self)
        else:
            _logger.info("queue %s was missing, and is created", self)
        return self._url_in(answer)

    async def _attributes(self) -> dict[str, str]:
        attributes: dict[str, str] = {}
        if self.name.endswith(FIFO_SUFFIX):
            attributes |= {"FifoQueue": "true", **_HIGH_THROUGHPUT}
        if self._errors is None:
            attributes["MessageRetentionPeriod"] = str(_ERROR_RETENTION_SECONDS)
        else:
            policy = {
                "deadLetterTargetArn": await self._errors._arn(),
                "maxReceiveCount": self._max_receive_count,
            }
            attributes["RedrivePolicy"] = json.dumps(policy)
        return {**attributes, **self._wanted}

    async def _arn(self) -> str:
        # Looked up again: both may have been deleted since.
        self._url = self._given_url or await self._look_up() or await self._create()
        self._was_found = True
        answer = await self._ask(
            "GetQueueAttributes", QueueUrl=self._url, AttributeNames=["QueueArn"]
        )
        return self._arn_in(answer)

    def _arn_in(self, answer: Answer) -> str:
        arn = answer.get("Attributes", {}).get("QueueArn")
        if not arn:
            raise BackendUnavailable(
                f"the attributes of {self} contain no QueueArn; does SQS answer at this endpoint?"
            )
        return str(arn)

    async def _ask(self, operation: str, **parameters: Any) -> Answer:
        answer, _ = await self.links.here().call(
            operation, parameters, self.name, self._note_request
        )
        return answer
