"""The messages with which serializers refuse a call or an item.

Owns these messages, the checks of an item's fields that use them, and the short text of a value in
a message. The one rule: no message shows the value of an argument, because messages end in logs.
And a broken ``__repr__`` or a long text never breaks an error message.
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from deferrable.errors import InvalidOptions, UnreadableItem, UnserializableCall

T = TypeVar("T")


def any_field(item: Mapping[str, Any], field: str) -> Any:
    try:
        return item[field]
    except Exception as error:
        fields = short_repr(list(item)) if isinstance(item, Mapping) else kind_of(item)
        raise UnreadableItem(f"the item has no field {field!r}: {fields}") from error


def text_field(item: Mapping[str, Any], field: str) -> str:
    text = item.get(field) if type(item) is dict else None
    if type(text) is str:
        return text  # nearly always; each item has some
    text = any_field(item, field)
    if not isinstance(text, str):
        reject(field, text, "text")
    return text


def check_text(what: str, text: object) -> None:
    """Refuse what no broker could store as a text.

    Raises:
        InvalidOptions: it is no text, or has a lone surrogate.
    """
    try:
        if isinstance(text, str) and text.encode():
            return
    except UnicodeEncodeError:
        pass
    raise InvalidOptions(f"{what} is a text of valid characters, got {short_repr(text)}")


def with_text_keys(kwargs: dict[Any, Any]) -> dict[str, Any]:
    for key in kwargs:
        if not isinstance(key, str):
            reject("kwargs", key, "text for each keyword")
    return kwargs


def reject(field: str, value: object, wanted: str) -> NoReturn:
    wrong = f"the item's {field} must hold {wanted}, and holds {kind_of(value)}"
    raise UnreadableItem(wrong) from TypeError(f"{type(value).__name__} instead of {wanted}")


def dump_or_refuse(value: object, dump: Callable[[object], T]) -> T:
    try:
        return dump(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UnserializableCall(
            f"{kind_of(value)} cannot be serialized: {describe(error)}"
        ) from error


def refuse_call(
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    dump: Callable[[object], object],
    error: BaseException,
) -> NoReturn:
    """Raise an error with the first argument that also fails alone."""
    for where, value in _arguments(args, kwargs):
        try:
            dump(value)
        except KeyboardInterrupt:
            raise
        except BaseException as own_error:
            raise UnserializableCall(
                f"{where} of {name} cannot be serialized: {kind_of(value)}: {describe(own_error)}. "
                f"Nothing was pushed; {_ADVICE}"
            ) from own_error
    raise UnserializableCall(
        f"the arguments of {name} cannot be serialized together: {describe(error)}. "
        f"Nothing was pushed; {_ADVICE}"
    ) from error


_ADVICE = (
    "pass plain values, such as an id by which the job looks the object up, or objects of "
    "classes at the top level of an importable module"
)


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for index, value in enumerate(args):
        yield f"positional argument {index + 1} (args[{index}])", value
    for keyword, value in kwargs.items():
        yield f"keyword argument {keyword!r}", value


def kind_of(value: object) -> str:
    """The text for an argument in a message: its type. Its value may be a secret."""
    cls = type(value)
    package = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return f"a value of type {package}{cls.__qualname__}"


def describe(error: BaseException) -> str:
    text = _shortened(_safely(str, error), 300)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60


_REPR = _ShortRepr()


def short_repr(value: object, limit: int = 120) -> str:
    """Return ``repr(value)`` in one line of at most ``limit`` characters, for a message.

    Never raises (but KeyboardInterrupt), not even for an object whose own ``__repr__`` does,
    and does not build the whole text of a long container first.
    """
    # That of a text is one line already, and shows its spaces as they are.
    return _shortened(_safely(_REPR.repr, value), limit, is_line=value.__class__ is str)


def _safely(write: Callable[[Any], str], value: object) -> str:
    try:
        return write(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type(value).__name__} whose text raises {type(error).__name__}>"


def _shortened(text: str, limit: int, *, is_line: bool = False) -> str:
    begin = text[: 4 * limit]
    line = begin if is_line else " ".join(begin.split())
    line = line.encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= limit else line[: limit - 3] + "..."
