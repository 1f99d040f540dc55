"""Messages that somebody else wrote: another program, SNS, EventBridge, S3.

Owns what the user's function sees of such a message, and the items that stand for it. It does no
I/O.

The one rule: only what cannot be an item of this library is foreign. And a message is never lost
because of an error here: it goes to the error queue with its body, and comes back to the function
when it is requeued.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deferrable._codec.refusals import describe, kind_of
from deferrable.aio._contract.foreign import ItemMaker
from deferrable.aio.backend.sqs._attributes import attributes_in, notification_attributes
from deferrable.aio.backend.sqs._bodies import decode
from deferrable.aio.backend.sqs._reading import group_in, is_put_aside
from deferrable.errors import InvalidOptions, UnreadableItem
from deferrable.item import CALL_FIELDS, Item

__all__ = ["ForeignMessage", "ForeignReader", "OnForeign"]

_NOTIFICATION_FIELDS = frozenset({"TopicArn", "MessageId", "Message"})
"""Source: SNS developer guide, "Parsing Amazon SNS message formats"."""


@dataclass(frozen=True, slots=True)
class ForeignMessage:
    """A message that this library did not write.

    Attributes:
        id: the id of the message in SQS; calls made from it have this id, too.
        text: its body. Of a notification by SNS that is wrapped in JSON, it is what was published.
        attributes: its message attributes as texts; a binary value as base64. ``AWSTraceHeader`` is
            among them. Of a wrapped notification, they are those of the notification.
        sent_time: when it was sent, in epoch seconds.
        topic_arn: the topic of a wrapped notification by SNS; None: it is none.
        subject: the subject of such a notification; None: it has none.
    """

    id: str
    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    sent_time: float = 0.0
    topic_arn: str | None = None
    subject: str | None = None

    def json(self) -> Any:
        """The text as JSON: the event of S3 or EventBridge, or whatever was published.

        Raises:
            ValueError: it is no JSON.
        """
        return json.loads(self.text)

    def __repr__(self) -> str:
        # Without its text, which has no place in logs.
        return f"<ForeignMessage {self.id}, {len(self.text)} characters>"


OnForeign: TypeAlias = Callable[[ForeignMessage], ItemMaker | Iterable[ItemMaker] | None]
"""Takes a message and returns what it means: a ``job.call(...)``, several of them, or none with an
empty list. None: it is not known what the message means, and it goes to the error queue."""


class ForeignReader:
    """Finds the items for messages that hold none.

    Args:
        on_foreign: the user's function.

    Raises:
        InvalidOptions: it is no plain function.
    """

    def __init__(self, on_foreign: OnForeign) -> None:
        if not callable(on_foreign) or inspect.iscoroutinefunction(on_foreign):
            raise InvalidOptions(
                f"foreign is a plain function that takes a ForeignMessage, got {on_foreign!r:.200}"
            )
        self._on_foreign = on_foreign

    def items(self, message: Mapping[str, Any], text: str, now: float) -> list[Item]:
        """The item in `message`, or those that stand for it; none: there is nothing to do.

        Args:
            text: its body, or what its body refers to.

        Raises:
            UnreadableItem: it holds none, and the function does not know it, or failed.
        """
        item: Item | None = None
        try:
            item = decode(text)
        except UnreadableItem as error:
            unreadable = error
        else:
            if item.keys() >= CALL_FIELDS or is_put_aside(item):
                return [item]
            unreadable = UnreadableItem("it is JSON, but not an item of this library")
        foreign = _foreign(message, text, item or {}, now)
        try:
            returned = self._on_foreign(foreign)
            calls = None if returned is None else _several(returned)
        except Exception as error:
            raise UnreadableItem(
                f"the function given as foreign= raised {describe(error)}; correct it, then "
                "requeue the message"
            ) from error
        if calls is None:
            raise UnreadableItem(
                f"{unreadable}; and the function given as foreign= returned None for it"
            )
        try:
            return [_make_item(each, foreign, number, message) for number, each in enumerate(calls)]
        except Exception as error:  # options that are callables raise what they like
            raise UnreadableItem(
                f"the call for {foreign!r} cannot be made: {describe(error)}"
            ) from error


def _foreign(message: Mapping[str, Any], text: str, item: Item, now: float) -> ForeignMessage:
    attributes = attributes_in(message)
    message_id, sent_time = message["MessageId"], _sent_time(message, now)
    if item.get("Type") != "Notification" or not _is_notification(item):
        return ForeignMessage(message_id, text, attributes, sent_time)
    own = notification_attributes(item.get("MessageAttributes"))
    subject = item.get("Subject")
    return ForeignMessage(
        message_id,
        item["Message"],
        {**attributes, **own},
        sent_time,
        item["TopicArn"],
        subject if isinstance(subject, str) else None,
    )


def _is_notification(item: Item) -> bool:
    return all(isinstance(item.get(name), str) for name in _NOTIFICATION_FIELDS)


def _several(returned: Any) -> list[Any]:
    if hasattr(returned, "make_item"):
        return [returned]
    if isinstance(returned, str | bytes | Mapping) or not isinstance(returned, Iterable):
        returned = [returned]
    return list(returned)


def _make_item(call: Any, foreign: ForeignMessage, number: int, message: Mapping[str, Any]) -> Item:
    if not hasattr(call, "make_item"):
        raise UnreadableItem(
            f"the function given as foreign= returned {kind_of(call)}; return job.call(...), a "
            "list of them, or None"
        )
    call_id = foreign.id if number == 0 else f"{foreign.id}.{number}"
    # With its group, a retry stays in it.
    item: Item = call.make_item(call_id, foreign.sent_time, foreign.attributes, group_in(message))
    return item


def _sent_time(message: Mapping[str, Any], now: float) -> float:
    try:
        return int(message["Attributes"]["SentTimestamp"]) / 1000
    except (KeyError, ValueError):
        return now
