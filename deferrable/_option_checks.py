"""The checks of options, and what is kept of their values.

Owns the functions that the declarations in `deferrable.options` name. Each takes the option's name,
for its error.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, cast

from deferrable._durations import check_number, plain_number, seconds_of
from deferrable.errors import InvalidOptions

__all__ = [
    "check_call_id",
    "check_attributes",
    "check_group_id",
    "check_max_attempts",
    "check_seconds",
    "check_time_limit",
    "error_class_tuple",
    "is_attribute",
    "is_group_id",
    "kept_attributes",
    "kept_number",
    "plain_seconds",
    "truth",
]


def error_class_tuple(name: str, classes: object) -> tuple[type[BaseException], ...] | None:
    """`classes`, an iterable of exception classes or None, as a tuple or None.

    Raises:
        InvalidOptions: it is something else; a bare class has its own message.
    """
    if classes is None:
        return None
    if isinstance(classes, type):
        raise InvalidOptions(
            f"{name} is an iterable of exception classes, got the bare class "
            f"{classes.__qualname__}; write {name}=[{classes.__qualname__}]"
        )
    try:
        members: tuple[Any, ...] = tuple(cast("Iterable[object]", classes))  # checked by trying
    except TypeError:
        members = (classes,)
    for member in members:
        if not (isinstance(member, type) and issubclass(member, BaseException)):
            raise InvalidOptions(
                f"{name} is an iterable of exception classes, got {classes!r:.200}"
            )
    return members


def check_max_attempts(name: str, value: object) -> None:
    """Refuse a number of attempts that is no whole number from 1 on."""
    check_number(name, value, least=1, is_whole=True, hint="; 1 means no retry")


def plain_seconds(name: str, value: object) -> object:
    return plain_number(value.total_seconds() if isinstance(value, timedelta) else value)


def kept_number(name: str, value: object) -> object:
    return plain_number(value)


def truth(name: str, value: object) -> bool:
    return bool(value)


def check_seconds(name: str, value: object) -> None:
    if not callable(value):
        seconds_of(name, value)


def check_time_limit(name: str, value: object) -> None:
    if value == 0:
        raise InvalidOptions(f"{name} is 0, no job could run; None is without end")
    seconds_of(name, value)


_GROUP_ID = re.compile(r"[!-~]{1,128}")


def check_group_id(name: str, value: object) -> None:
    """Source: SQS API reference, SendMessage, MessageGroupId."""
    if not is_group_id(value):
        raise InvalidOptions(
            f"{name} is a text of 1 to 128 ASCII letters, digits and punctuation, got "
            f"{value!r:.200}"
        )


def is_group_id(value: object) -> bool:
    """Whether SQS takes it as the group of a message."""
    return isinstance(value, str) and _GROUP_ID.fullmatch(value) is not None


_MOST_ID_CHARACTERS = 64


def check_call_id(name: str, value: object) -> None:
    """Refuse what cannot be the id of a call in every backend."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _MOST_ID_CHARACTERS
        or not (value.isascii() and value.isprintable())
    ):
        raise InvalidOptions(
            f"{name} is a text of 1 to {_MOST_ID_CHARACTERS} printable ASCII characters, got "
            f"{value!r:.200}"
        )


_MOST_ATTRIBUTES = 9
"""SQS takes 10 with a message; one is left for the size of an item that is kept in S3."""
_ATTRIBUTE_NAME = re.compile(
    r"(?!aws\.|amazon\.)(?!.*\.\.)[a-z0-9_-]([a-z0-9_.-]{0,254}[a-z0-9_-])?",
    re.IGNORECASE | re.ASCII,
)
_ATTRIBUTE_VALUE = re.compile(r"[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


def kept_attributes(name: str, value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def check_attributes(name: str, value: object) -> None:
    """Source: SQS developer guide, "Message metadata"; API reference, MessageAttributeValue."""
    if not isinstance(value, Mapping) or len(value) > _MOST_ATTRIBUTES:
        shown = f"{len(value)} of them" if isinstance(value, Mapping) else f"{value!r:.200}"
        raise InvalidOptions(
            f"{name} is a mapping of at most {_MOST_ATTRIBUTES} names to texts, got {shown}"
        )
    for key, text in value.items():
        if not isinstance(key, str) or not _ATTRIBUTE_NAME.fullmatch(key):
            raise InvalidOptions(
                f"{name} has the name {key!r:.200}; write up to 256 letters, digits, _, - and ., "
                "without a . at an end or beside another, and not beginning with AWS. or Amazon."
            )
        if not isinstance(text, str) or not _ATTRIBUTE_VALUE.fullmatch(text):
            raise InvalidOptions(
                f"{name} has the value {text!r:.200} for {key}; write a text that is not empty and "
                "has no control characters"
            )


def is_attribute(key: object, text: object) -> bool:
    """Whether SQS takes this name and value with a message."""
    try:
        check_attributes("attributes", {key: text})
    except InvalidOptions:
        return False
    return True
