"""For code outside this library that reads, or writes, the strings inside items.

Owns the five functions that the first deferrable documented for this, under their old names. The
one rule: only here a *function* is taken from an item, because the caller asks for it. A consumer
of this library never does that.
"""

import binascii
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import getattr_static
from typing import Any

from deferrable._codec import names as _names
from deferrable._codec.inert import read_inert, show
from deferrable._codec.python2 import classic as _classic
from deferrable._codec.serializers import get_serializer, serializer_for, short_repr
from deferrable.errors import UnreadableItem, UnserializableCall

__all__ = ["build_later_item", "dumps", "loads", "pretty_unpickle", "unpickle_method_call"]


def loads(string: str | bytes | None) -> Any:
    """Return the object that a string inside an item holds; None for None.

    Reads the strings of ``classic`` and ``pickle``; ``json`` items hold no strings. Like any
    unpickling, it can run any code in the string: use it only on items from writers that you trust.

    Raises:
        UnreadableItem: whatever was wrong, as its cause.
    """
    if string is None:
        return None
    text = string.decode("latin-1") if isinstance(string, bytes) else string
    return _serializer_of(text).load_value(text)


def dumps(obj: object) -> str:
    """Return ``obj`` as the first deferrable wrote it, readable there and here.

    Raises:
        UnserializableCall: it cannot be pickled.
    """
    return str(get_serializer("classic").dump_value(obj))


def build_later_item(method: Callable[..., object], /, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the fields ``method``, ``args`` and ``kwargs`` of a call, as the old library did.

    Raises:
        UnserializableCall: Python 2 could not find ``method`` by its name, or an argument cannot
            be pickled.
    """
    reason = _names.why_unfindable(method)
    name = _names.name_of(method)
    if reason is not None:
        raise UnserializableCall(
            f"{name} cannot be called in another process, because {reason}; "
            f"define it with def at the top level of a module"
        )
    return get_serializer("classic").dump_call(name, args, kwargs)


def unpickle_method_call(
    item: Mapping[str, Any],
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return the function that ``item`` names, its positional and its keyword arguments.

    The function's module is *imported* if it is not loaded, and the object there under the recorded
    name is returned: only for items from writers that you trust. (Consumers do not do this; they
    run registered jobs only.)

    Raises:
        UnreadableItem: the call cannot be decoded or the function is not there, with the cause.
            Items of a job with ``name=`` name no function to import.
    """
    serializer = serializer_for(item)
    if item.get("encrypted"):
        raise UnreadableItem(
            "the item is encrypted; decrypt its args and kwargs (base64 text) before"
        )
    if "object" in item:
        call = serializer.load_call(item)
        function = _found(call.name, lambda: getattr(call.target, call.name))
    else:
        name = serializer.load_name(item)
        function = _found(name, lambda: _imported(name))
        call = serializer.load_call(item, function)
    return function, call.args, call.kwargs


def pretty_unpickle(item: Mapping[str, Any]) -> str:
    """Return a text about the call in ``item``, for logs. Never raises, for any item.

    Nothing is imported and nothing in the item is run: objects of classes show as their class's
    name and what they were made from. The function's file and line are there if its module is
    loaded already.
    """
    name = _attempted(lambda: serializer_for(item).load_name(item))
    filename, lineno = _attempted(lambda: _place(name)) or (None, None)
    fields = {
        "method": name or short_repr(_attempted(lambda: item["method"])),
        "filename": filename,
        "lineno": lineno,
        "args": _shown(item, "args"),
        "kwargs": _shown(item, "kwargs"),
    }
    return str(fields)


def _serializer_of(text: str) -> Any:
    # A pickle ends with a full stop, which escaping leaves alone and base64 does not have.
    return get_serializer("classic" if text.endswith(".") else "pickle")


def _found(name: str, find: Callable[[], Any]) -> Any:
    try:
        return find()
    except Exception as error:
        raise UnreadableItem(
            f"the function {name} that the item names cannot be found: "
            f"{type(error).__name__}: {error}"
        ) from error


def _imported(name: str) -> Any:
    module, colon, path = name.partition(":")
    if not colon:
        raise LookupError("it is the name= of a job, not module:qualname")
    found: Any = import_module("__main__" if _names.is_main(module) else module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _place(name: str | None) -> tuple[str, int] | None:
    """Return the file and line of a function whose module is loaded, running no code."""
    module, _, path = (name or "").partition(":")
    found: Any = sys.modules.get("__main__" if _names.is_main(module) else module)
    for part in path.split("."):
        found = getattr_static(found, part)
    code = getattr(found, "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno)


def _shown(item: Mapping[str, Any], field: str) -> str:
    try:
        text = item[field]
        if not isinstance(text, str):
            return short_repr(text, 1000)
        if text.endswith("."):
            data = _classic.unescape(text)
        else:
            data = binascii.a2b_base64(text, strict_mode=True)
        return show(read_inert(data), 1000)
    except Exception as error:
        return f"<unreadable: {type(error).__name__}: {short_repr(error)}>"


def _attempted(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except Exception:
        return None
