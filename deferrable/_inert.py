"""Reads what a pickle holds without running any of it.

Owns the reading of references to functions, of error classes, and of whole pickles for show, all
as *names*. Knows nothing of items, and may not use an unpickler that makes objects. The one rule:
nothing is imported and nothing is called, whatever the pickle says.
"""

import io
import pickle
import re
import reprlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from deferrable._python2_errors import RENAMED_ERRORS
from deferrable._python2_names import python3_name
from deferrable._python2_text import text_or_bytes, unescape, unreadable


class Inert:
    """Stands where a pickle names a global, or what calling one would have made. Does nothing."""

    def __init__(self, name: str, arguments: tuple[object, ...] | None = None) -> None:
        self.name = name
        self.arguments = arguments
        self.parts: list[object] = []

    def __call__(self, *args: object, **kwargs: object) -> "Inert":
        return Inert(self.name, (*args, kwargs) if kwargs else args)

    def append(self, part: object) -> None:
        self.parts.append(part)

    add = __setstate__ = append

    def __setitem__(self, key: object, value: object) -> None:
        self.parts.append({key: value})

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        if self.arguments is None and not self.parts:
            return f"<{self.name}>"
        return f"<{self.name} {', '.join(map(repr, [*(self.arguments or ()), *self.parts]))}>"


def read_inert(data: bytes) -> Any:
    """Return what a pickle of any protocol holds, with an ``Inert`` for all but plain data.

    Nothing is imported and nothing is called, so this is safe on data from anywhere.

    Raises:
        UnreadableItem: the pickle is broken, or relies on more than globals.
    """
    try:
        return _InertUnpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise unreadable("is no pickle", error) from error


class _InertUnpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    if TYPE_CHECKING:  # offered to subclasses by CPython, left out by typeshed
        proto: int
        stack: list[Any]

    _decode_string = staticmethod(text_or_bytes)

    def find_class(self, module: str, name: str) -> Inert:
        return Inert(python3_name(module, name) if self.proto < 3 else f"{module}:{name}")

    def get_extension(self, code: int) -> None:
        self.stack.append(Inert(f"copyreg extension {code}", ()))

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _inert(self.stack[-1])(*arguments)

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        arguments = self.stack.pop()
        self.stack[-1] = _inert(self.stack[-1])(*arguments, **keywords)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _inert(self.stack[-1])(*arguments)

    dispatch |= {
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.REDUCE[0]: load_reduce,
    }


def _inert(function: object) -> Inert:
    if not isinstance(function, Inert):
        raise pickle.UnpicklingError(f"a {type(function).__name__} is called")
    return function


_REFERENCE = re.compile(
    rb"(?:\x80[\x00-\x02])?"  # protocol, from 2 on
    rb"c(?P<module>[^\n]+)\n(?P<name>[^\n]+)\n"  # one global
    rb"(?:p\d+\n|q.|r....)?"  # its number in the memo
    rb"\.",
    re.DOTALL,
)


def load_reference(text: str | bytes) -> str:
    """Return ``module:name`` of the function that Python 2 pickled by reference.

    Nothing is imported and nothing is run, whatever the text holds. Python 2's names for modules
    of the standard library become Python 3's.

    Raises:
        UnreadableItem: the text is anything but one reference: a pickled object or method, or
            not a pickle at all.
    """
    data = unescape(text)
    match = _REFERENCE.fullmatch(data)
    try:
        if match is None:
            raise ValueError(f"no pickled reference to a function: {data[:80]!r}")
        return python3_name(match["module"].decode(), match["name"].decode())
    except ValueError as error:
        raise unreadable("does not name one function", error) from error


def load_class_names(text: str | bytes) -> tuple[str, ...]:
    """Return the names of the error classes that Python 2 pickled, as ``module:name``.

    None (no classes), one class, and any tuple, list, set, frozenset or dict of classes, nested
    or not, are read. Nothing is imported and nothing is called. Python 2's names become those
    that the classes have in Python 3 (``IOError`` is ``OSError``), so they can be compared with
    ``_names.class_names``; some have more than one.

    Raises:
        UnreadableItem: there is anything else in the pickle.
    """
    names: dict[str, None] = {}
    try:
        for reference in _references(read_inert(unescape(text))):
            names.update(dict.fromkeys(RENAMED_ERRORS.get(reference, (reference,))))
    except TypeError as error:
        raise unreadable("does not hold error classes", error) from error
    return tuple(names)


def _references(tree: object) -> Iterator[str]:
    todo, seen = [tree], set[int]()
    while todo:
        node = todo.pop()
        if node is None and node is tree:
            continue
        if isinstance(node, Inert) and node.arguments is None and not node.parts:
            yield node.name
            continue
        elements = _elements(node)
        if id(node) not in seen:
            seen.add(id(node))
            todo.extend(reversed(elements))


def _elements(node: object) -> list[object]:
    if isinstance(node, tuple | list | set | frozenset | dict):
        return list(node)
    if (
        isinstance(node, Inert)
        and node.name in ("builtins:set", "builtins:frozenset")
        and node.arguments is not None
        and len(node.arguments) == 1
        and isinstance(node.arguments[0], list | tuple)
        and not node.parts
    ):
        return list(node.arguments[0])
    raise TypeError(f"{node!r} is neither a class nor a collection of classes"[:200])
