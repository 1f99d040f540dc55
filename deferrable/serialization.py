"""What turns a call into fields of an item, and the fields back into a call.

Owns the contract of a serializer, the built-in ``pickle`` and ``classic``, and the words with
which both refuse. Knows nothing of queues, jobs or instances, and never resolves a function: what
it reads is a *name*. The one rule: producers hear ``UnserializableCall`` before anything was
written, consumers meet no error but ``UnreadableItem``, and both carry the cause.
"""

import binascii
import io
import pickle
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol, TypeAlias

from deferrable import _classic, _names
from deferrable.errors import InvalidOptions, UnreadableItem, UnserializableCall

__all__ = [
    "ClassicSerializer",
    "DecodedCall",
    "JSONValue",
    "PickleSerializer",
    "Serializer",
    "get_serializer",
    "serializer_for",
    "short_repr",
]

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"


@dataclass(frozen=True, slots=True)
class DecodedCall:
    """The call that an item holds.

    Attributes:
        name: ``module:qualname`` or the name given to the job; of an ``object`` item, the plain
            name of the method.
        args: positional arguments.
        kwargs: keyword arguments.
        target: of an ``object`` item, the object whose method is called; else None.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: object | None = None


class Serializer(Protocol):
    """What a serializer must do. Implementations hold no state and may be used by any thread."""

    @property
    def name(self) -> str:
        """What options and items call it."""
        ...

    def dump_call(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the fields ``method``, ``args``, ``kwargs`` and, except classic, ``serializer``.

        Raises:
            UnserializableCall: names the argument that cannot travel, why, and what to do.
        """
        ...

    def dump_value(self, value: object) -> JSONValue:
        """Return one value, such as a namespace's metadata, as it travels.

        Raises:
            UnserializableCall: it cannot travel.
        """
        ...

    def load_value(self, data: Any) -> Any:
        """Return the value that ``dump_value`` was given; None for None.

        Raises:
            UnreadableItem: whatever was wrong, as its cause.
        """
        ...

    def load_call(self, item: Mapping[str, Any]) -> DecodedCall:
        """Return the call in ``item``, its arguments decoded. May run what the item says.

        Raises:
            UnreadableItem: whatever was wrong, as its cause. No other error leaves this, except
                KeyboardInterrupt.
        """
        ...

    def load_name(self, item: Mapping[str, Any]) -> str:
        """Return the recorded name alone. Must decode no argument and run nothing.

        Raises:
            UnreadableItem: there is no name in the item.
        """
        ...

    def dump_error_classes(self, classes: Iterable[type[BaseException]] | None) -> dict[str, Any]:
        """Return the fields that say which errors are retried.

        Raises:
            InvalidOptions: one of them is no exception class, or cannot be named in this
                serializer.
        """
        ...

    def load_retry_names(self, item: Mapping[str, Any]) -> frozenset[str]:
        """Return the names of the classes to retry, to compare with those of an error's classes.

        Must import and run nothing.

        Raises:
            UnreadableItem: the fields hold something else.
        """
        ...


def get_serializer(name: str) -> Serializer:
    """Return the built-in serializer called ``name``.

    Raises:
        InvalidOptions: there is none of that name.
    """
    serializer = _BUILT_IN.get(name) if isinstance(name, str) else None
    if serializer is None:
        raise InvalidOptions(f"serializer is {short_repr(name)}; it must be one of {_known()}")
    return serializer


def serializer_for(item: Mapping[str, Any]) -> Serializer:
    """Return the serializer that wrote ``item``: the one it names, or classic if it names none.

    Raises:
        UnreadableItem: it names one that this version does not have.
    """
    name = item.get("serializer")
    if name is None:
        return _BUILT_IN["classic"]
    serializer = _BUILT_IN.get(name) if isinstance(name, str) else None
    if serializer is None:
        raise UnreadableItem(
            f"the item was written by serializer {short_repr(name)}, and this consumer knows "
            f"{_known()}; upgrade deferrable here, or have the producer use one of these"
        ) from LookupError(f"no serializer {short_repr(name)}")
    return serializer


def _known() -> str:
    return ", ".join(map(repr, sorted(_BUILT_IN)))


# --- pickle -----------------------------------------------------------------------------------

# 5 is the newest protocol that every Python we support (3.11 and later) reads, and it writes
# bytearrays and buffers as they are. A fixed number, because a newer Python's own default would
# be unreadable to consumers that are upgraded last.
_PROTOCOL = 5


class PickleSerializer:
    """Any picklable argument, as base64 text of a pickle; the default."""

    @property
    def name(self) -> str:
        return "pickle"

    def dump_call(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            return {
                "method": name,
                "args": _to_base64(tuple(args)),
                "kwargs": _to_base64(dict(kwargs)) if kwargs else _NO_KWARGS,
                "serializer": "pickle",
            }
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _refuse_call(name, args, kwargs, _to_base64, error)

    def dump_value(self, value: object) -> JSONValue:
        return _dump_value(value, _to_base64)

    def load_value(self, data: Any) -> Any:
        return None if data is None else _from_base64("value", data)

    def load_call(self, item: Mapping[str, Any]) -> DecodedCall:
        name = self.load_name(item)
        args = _from_base64("args", _field(item, "args"))
        kwargs = _from_base64("kwargs", _field(item, "kwargs"))
        if type(args) is not tuple:
            _reject("args", args, "a tuple")
        if type(kwargs) is not dict:
            _reject("kwargs", kwargs, "a dict")
        return DecodedCall(name, args, _with_text_keys(kwargs))

    def load_name(self, item: Mapping[str, Any]) -> str:
        return _text_field(item, "method")

    def dump_error_classes(self, classes: Iterable[type[BaseException]] | None) -> dict[str, Any]:
        names = dict.fromkeys(map(_name_of_error, classes or ()))
        return {"error_classes": None, "retry_on": list(names)}

    def load_retry_names(self, item: Mapping[str, Any]) -> frozenset[str]:
        names = item.get("retry_on")
        if names is None:
            return frozenset()
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            _reject("retry_on", names, "a list of names")
        return frozenset(names)


def _name_of_error(cls: type[BaseException]) -> str:
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        raise InvalidOptions(f"error_classes holds {short_repr(cls)}, which is no exception class")
    return _names.name_of(cls)


def _to_base64(value: object) -> str:
    return binascii.b2a_base64(_pickled(value), newline=False).decode("ascii")


def _pickled(value: object) -> bytes:
    data = pickle.dumps(value, _PROTOCOL)
    if b"__main__" not in data and b"__mp_main__" not in data:
        return data
    # Perhaps only text that says so; this pickler, in Python and slow, looks at the objects.
    file = io.BytesIO()
    _MainPickler(file, _PROTOCOL).dump(value)
    return file.getvalue()


class _MainPickler(pickle._Pickler):
    """Writes what lives in ``__main__`` under the name by which other processes import it."""

    dispatch: ClassVar[dict[type, Callable[[Any, Any], None]]] = dict(pickle._Pickler.dispatch)

    if TYPE_CHECKING:  # offered to subclasses by CPython, left out by typeshed
        write: Callable[[bytes], object]

        def memoize(self, obj: object) -> None: ...
        def save(self, obj: object) -> None: ...

    def save_global(self, obj: Any, name: str | None = None) -> None:
        path = name or getattr(obj, "__qualname__", None) or obj.__name__
        # What typeshed leaves out is ignored here.
        module = pickle.whichmodule(obj, path)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        if module not in _names.MAIN_NAMES:
            super().save_global(obj, name)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
            return
        self.save(_names.importable_main(path))
        self.save(path)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)

    dispatch[FunctionType] = save_global


def _from_base64(field: str, text: Any) -> Any:
    if not isinstance(text, str):
        _reject(field, text, "text")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
        return _MainUnpickler(io.BytesIO(data)).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # BaseException: a pickle that exits the process must not end one consumer after another.
        raise UnreadableItem(f"the item's {field} cannot be unpickled: {_told(error)}") from error


class _MainUnpickler(pickle.Unpickler):
    """Finds what other processes know by a module's name in the ``__main__`` that it is here."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        here = "__main__" if _names.is_main(module_name) else module_name
        return super().find_class(here, global_name)


_NO_KWARGS = _to_base64({})


# --- classic ----------------------------------------------------------------------------------


class ClassicSerializer:
    """What Python 2's deferrable wrote and reads; for queues shared with it."""

    @property
    def name(self) -> str:
        return "classic"

    def dump_call(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        method = _classic.dump_reference(*_split(name))
        try:
            return {
                "method": method,
                "args": _classic.dumps(tuple(args)),
                "kwargs": _classic.dumps_kwargs(kwargs),
            }
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _refuse_call(name, args, kwargs, _classic.dumps, error)

    def dump_value(self, value: object) -> JSONValue:
        return _dump_value(value, _classic.dumps)

    def load_value(self, data: Any) -> Any:
        return None if data is None else _from_classic("value", data)

    def load_call(self, item: Mapping[str, Any]) -> DecodedCall:
        name = self.load_name(item)
        args = _from_classic("args", _field(item, "args"))
        kwargs = _from_classic("kwargs", _field(item, "kwargs"))
        target = _from_classic("object", item["object"]) if "object" in item else None
        if not isinstance(args, tuple | list):
            _reject("args", args, "a tuple")
        return DecodedCall(name, tuple(args), _with_text_keys(_pairs(kwargs)), target)

    def load_name(self, item: Mapping[str, Any]) -> str:
        method = _text_field(item, "method")
        return method if "object" in item else _classic.load_reference(method)

    def dump_error_classes(self, classes: Iterable[type[BaseException]] | None) -> dict[str, Any]:
        return {"error_classes": _classic.dump_error_classes(classes)}

    def load_retry_names(self, item: Mapping[str, Any]) -> frozenset[str]:
        if item.get("error_classes") is None:
            return frozenset()
        return frozenset(_classic.load_class_names(_text_field(item, "error_classes")))


def _split(name: str) -> tuple[str, str]:
    module, colon, path = name.partition(":")
    if not colon:
        raise UnserializableCall(
            f"the classic serializer cannot name the job {name!r} so that Python 2 finds it: "
            f"Python 2 knows functions by module and name only; leave out name=, or use "
            f"serializer='pickle'"
        )
    return module, path


def _from_classic(field: str, text: Any) -> Any:
    if not isinstance(text, str):
        _reject(field, text, "text")
    try:
        return _classic.loads(text)
    except UnreadableItem as error:
        raise UnreadableItem(f"the item's {field} cannot be read: {error}") from error.__cause__


def _pairs(kwargs: Any) -> dict[Any, Any]:
    try:
        return dict(kwargs)
    except Exception as error:
        raise UnreadableItem(
            f"the item's kwargs hold {short_repr(kwargs)}, neither a list of pairs nor a dict"
        ) from error


_BUILT_IN: dict[str, Serializer] = {"pickle": PickleSerializer(), "classic": ClassicSerializer()}


# --- What both refuse, and how ----------------------------------------------------------------


def _field(item: Mapping[str, Any], field: str) -> Any:
    try:
        return item[field]
    except Exception as error:
        raise UnreadableItem(f"the item has no field {field!r}: {short_repr(item)}") from error


def _text_field(item: Mapping[str, Any], field: str) -> str:
    text = _field(item, field)
    if not isinstance(text, str):
        _reject(field, text, "text")
    return text


def _with_text_keys(kwargs: dict[Any, Any]) -> dict[str, Any]:
    for key in kwargs:
        if not isinstance(key, str):
            _reject("kwargs", key, "text for each keyword")
    return kwargs


def _reject(field: str, value: object, wanted: str) -> NoReturn:
    wrong = f"the item's {field} must hold {wanted}, and holds {short_repr(value)}"
    raise UnreadableItem(wrong) from TypeError(f"{type(value).__name__} instead of {wanted}")


def _dump_value(value: object, dump: Callable[[object], str]) -> str:
    try:
        return dump(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UnserializableCall(
            f"{_described(value)} cannot be serialized: {_told(error)}"
        ) from error


def _refuse_call(
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    dump: Callable[[object], str],
    error: BaseException,
) -> NoReturn:
    """Raise, naming the first argument that fails by itself, too."""
    for where, value in _arguments(args, kwargs):
        try:
            dump(value)
        except KeyboardInterrupt:
            raise
        except BaseException as own_error:
            raise UnserializableCall(
                f"{where} of {name} cannot be serialized: {_described(value)}: {_told(own_error)}. "
                f"Nothing was pushed; {_ADVICE}"
            ) from own_error
    raise UnserializableCall(
        f"the arguments of {name} cannot be serialized together: {_told(error)}. "
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


def _described(value: object) -> str:
    cls = type(value)
    return f"{short_repr(value)} of type {cls.__module__}.{cls.__qualname__}"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {_shortened(_safely(str, error), 300)}"


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
    return _shortened(_safely(_REPR.repr, value), limit)


def _safely(write: Callable[[Any], str], value: object) -> str:
    try:
        return write(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type(value).__name__} whose text raises {type(error).__name__}>"


def _shortened(text: str, limit: int) -> str:
    line = " ".join(text[: 4 * limit].split()).encode("utf-8", "backslashreplace").decode()
    return line if len(line) <= limit else line[: limit - 3] + "..."
