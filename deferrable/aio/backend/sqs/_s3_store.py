"""The store for items that are too large for an SQS message: one S3 object for each.

Owns the objects' names, and their writing, reading and deleting. A message holds a reference
instead, such as ``s3://BUCKET/PREFIX/UUID``.

The one rule: an object exists before the message that names it, and longer than it. A failure
leaves at most an object that no message names; a lifecycle rule of the bucket removes those. And
only objects that a store named itself are read or deleted, whatever a message says.
"""

import asyncio
import logging
import re
import uuid
from typing import Any

from deferrable._codec.refusals import short_repr
from deferrable.aio.backend.sqs._bodies import MAX_TEXT_BYTES, REFERENCE
from deferrable.aio.backend.sqs._errors import Refused, translated
from deferrable.aio.backend.sqs._link import SQSLinks, longest_seconds
from deferrable.aio.backend.sqs._pointers import pointer_in, pointer_to
from deferrable.aio.backend.sqs._settings import AWSSettings
from deferrable.errors import BackendError, InvalidOptions, UnreadableItem

__all__ = ["S3Store"]

_logger = logging.getLogger("deferrable")

_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class S3Store:
    """A store for items that are over the limit of an SQS message.

    Each has its own object, written before the message is sent and deleted after the item was
    completed. Objects can stay behind (after a flush, a crash, or a failed delete, which is
    logged). Give the bucket a lifecycle rule that removes them, after a longer time than SQS keeps
    messages. Without an object, its item goes to the error queue as unreadable.

    Args:
        bucket: its name. It is not created.
        prefix: where in it the objects are, as ``jobs`` for ``jobs/UUID``; empty: at its top.
        s3_connection: endpoint and credentials: nothing, for the environment's configuration
            (``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL``, ``AWS_DEFAULT_REGION``, ``AWS_REGION``);
            an aiobotocore or boto3 client for S3; a callable that returns one, or an async context
            manager of one. Only its settings are used; it is never closed.
        extended_client: messages refer to objects in the form of Amazon's extended client
            libraries, so that they can read them. Theirs are read in any case.
        deletes: objects are deleted once their items were completed. False: somebody else deletes
            them, such as a lifecycle rule, because other queues have messages about them.

    Raises:
        InvalidOptions: the bucket has no name, or `s3_connection` is something else.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        s3_connection: object = None,
        *,
        extended_client: bool = False,
        deletes: bool = True,
    ) -> None:
        if not isinstance(bucket, str) or not bucket or "/" in bucket:
            raise InvalidOptions(
                f"bucket is the name of an S3 bucket, without a slash, got {short_repr(bucket)}"
            )
        if not isinstance(prefix, str):
            raise InvalidOptions(f"prefix is text, got {short_repr(prefix)}")
        folder = prefix.strip("/")
        self._bucket = bucket
        self._folder = f"{folder}/" if folder else ""
        self._writes_pointers = extended_client
        self._deletes = deletes
        self._links = SQSLinks(AWSSettings("s3", s3_connection))

    def __repr__(self) -> str:
        return f"<S3Store {self._reference('')}>"

    @property
    def reference_bytes(self) -> int:
        """The length of a message body that holds a reference instead of an item."""
        return len(self._written(str(uuid.UUID(int=0))).encode())

    async def put(self, body: str) -> str:
        """Keep `body`, ASCII text, and return the reference to it.

        Raises:
            BackendError: it was not stored; with `BackendUnavailable`, it may have been.
        """
        name = str(uuid.uuid4())
        await self._call("PutObject", name, Body=body.encode("ascii"), ContentType="text/plain")
        return self._written(name)

    async def get(self, reference: str) -> str:
        """The body that `reference` names.

        Raises:
            UnreadableItem: it does not exist any more, is not text, or is from a store of another
                place.
            BackendError: S3 refused, or could not be reached.
        """
        name = self._name(reference)
        try:
            answer = await self._call("GetObject", name)
            if answer["ContentLength"] > MAX_TEXT_BYTES:
                answer["Body"].close()
                raise UnreadableItem(
                    f"{reference} has {answer['ContentLength']} bytes, and at most "
                    f"{MAX_TEXT_BYTES} are read"
                )
            data: bytes = await self._read(answer["Body"], answer["ContentLength"])
            # Others write other letters, too; what this library wrote is ASCII.
            return data.decode("utf-8" if reference.startswith("[") else "ascii")
        except Refused as error:
            if error.code not in ("NoSuchKey", "404"):
                raise
            raise UnreadableItem(
                f"{reference} does not exist any more: another delivery of the message completed "
                "its item, or a lifecycle rule removes objects sooner than SQS removes messages"
            ) from error
        except UnicodeDecodeError as error:
            raise UnreadableItem(f"{reference} does not hold text: {error}") from error

    async def delete(self, reference: str) -> None:
        """Remove the object of `reference`. A failure is logged. May be called twice.

        Nothing is removed if others read the object, too.
        """
        if not self._deletes:
            return
        try:
            await self._call("DeleteObject", self._name(reference))
        except (BackendError, UnreadableItem) as error:
            _logger.warning(
                "%s of a completed item could not be deleted: %s; a lifecycle rule of the bucket "
                "removes such objects",
                reference,
                error,
            )

    def join(self, user: object) -> None:
        """Note that `user` needs the store until it leaves, or is gone."""
        self._links.join(user)

    async def leave(self, user: object) -> None:
        """Note that `user` needs the store no longer; its connections close when nobody does."""
        await self._links.leave(user)

    async def _call(self, operation: str, name: str, **parameters: Any) -> Any:
        place = {"Bucket": self._bucket, "Key": self._folder + name}
        where = self._reference(name)
        answer, _ = await self._links.here().call(operation, {**place, **parameters}, where)
        return answer

    async def _read(self, stream: Any, size: int) -> Any:
        try:
            async with asyncio.timeout(longest_seconds(size)), stream:
                return await stream.read()
        except Exception as error:
            raise translated(error, "GetObject", repr(self)) from error

    def _reference(self, name: str) -> str:
        return f"{REFERENCE}{self._bucket}/{self._folder}{name}"

    def _written(self, name: str) -> str:
        """What a message says that refers to the object of a name."""
        if self._writes_pointers:
            return pointer_to(self._bucket, self._folder + name)
        return self._reference(name)

    def _name(self, reference: str) -> str:
        pointer = pointer_in(reference)
        if pointer is not None:
            bucket, key = pointer
            reference = f"{REFERENCE}{bucket}/{key}"
        name = reference.removeprefix(self._reference(""))
        # Under a prefix everything is messages', so that others may name objects as they like.
        is_theirs = pointer is not None and self._folder and 0 < len(name) < len(reference)
        if not is_theirs and not _NAME.fullmatch(name):
            raise UnreadableItem(
                f"{short_repr(reference)} was not stored by {self!r}; use the same bucket and "
                "prefix in the factories of producers and consumers"
            )
        return name
