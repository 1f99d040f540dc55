"""Read what a pickle holds without running any of it.

Owns the reading of references to functions, of error classes, and of whole pickles for display,
all as *names*. It must not use an unpickler that creates objects. The one rule: nothing is
imported and nothing is called, whatever the pickle says.
"""

import io
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deferrable._codec.claims import check_claims
from deferrable._codec.python2.errors import RENAMED_ERRORS
from deferrable._codec.python2.names import python3_name
from deferrable._codec.python2.text import text_or_bytes, unescape, unreadable
from deferrable._codec.refusals import short_repr


class Inert:
    """Stands for a global of a pickle, or for the result of calling one. Does nothing."""

    __slots__ = ("arguments", "name", "parts")

    def __init__(self, name: str, arguments: tuple[object, ...] | None = None) -> None:
        self.name = name
        self.arguments = arguments
        self.parts: list[object] = []

    def __call__(self, *args: object) -> "Inert":
        return Inert(self.name, args)

    def append(self, part: object) -> None:
        self.parts.append(part)

    add = __setstate__ = append

    def __setitem__(self, key: object, value: object) -> None:
        pair = InertDict()
        pair[key] = value
        self.parts.append(pair)


class InertDict:
    """Stands for a dict, without asking a key for its hash.

    A tuple of one tuple twice, of one twice, ... takes a few bytes to write, and for ever to hash.
    """

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[object, object]] = []

    def __setitem__(self, key: object, value: object) -> None:
        self.pairs.append((key, value))


class InertSet:
    """Stands for a set, without asking a member for its hash."""

    __slots__ = ("members",)

    def __init__(self, members: list[object]) -> None:
        self.members = members

    def add(self, member: object) -> None:
        self.members.append(member)


def read_inert(data: bytes) -> Any:
    """Return the content of a pickle of any protocol, with inert stand-ins for all but plain data.

    It may be shared and nested so much that a look at each part would not end; `show` ends.

    Nothing is imported and nothing is called, so this is safe on data from anywhere.

    Raises:
        UnreadableItem: the pickle is broken, or relies on more than globals.
    """
    try:
        check_claims(data)
        return _InertUnpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise unreadable("is not a pickle", error) from error


class _InertUnpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    if TYPE_CHECKING:  # offered to subclasses by CPython, left out by typeshed
        proto: int
        stack: list[Any]

        def pop_mark(self) -> list[Any]: ...

    _decode_string = staticmethod(text_or_bytes)

    def find_class(self, module: str, name: str) -> Inert:
        return Inert(python3_name(module, name) if self.proto < 3 else f"{module}:{name}")

    def get_extension(self, code: int) -> None:
        self.stack.append(Inert(f"copyreg extension {code}", ()))

    def load_call(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _called(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        self.load_call()
        self.stack[-1].append(keywords)

    def load_empty_dict(self) -> None:
        self.stack.append(InertDict())

    def load_dict(self) -> None:
        members = self.pop_mark()
        made = InertDict()
        made.pairs.extend(zip(members[::2], members[1::2], strict=True))
        self.stack.append(made)

    def load_empty_set(self) -> None:
        self.stack.append(InertSet([]))

    def load_frozenset(self) -> None:
        members = self.pop_mark()  # before the stack is read, because it is another one afterwards
        self.stack.append(InertSet(members))

    dispatch |= {
        pickle.NEWOBJ[0]: load_call,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.REDUCE[0]: load_call,
        pickle.EMPTY_DICT[0]: load_empty_dict,
        pickle.DICT[0]: load_dict,
        pickle.EMPTY_SET[0]: load_empty_set,
        pickle.FROZENSET[0]: load_frozenset,
    }


def _called(function: object, arguments: object) -> Inert:
    if not isinstance(function, Inert):
        raise pickle.UnpicklingError(f"it calls a value of type {type(function).__name__}")
    # Not copied: one long tuple may be the arguments of many calls.
    return Inert(function.name, arguments if isinstance(arguments, tuple) else (arguments,))


def show(value: object, limit: int) -> str:
    """Return a text for the result of `read_inert`, of about `limit` characters at most.

    Its time depends on the length of the text only, not on how often one part is in others.
    """
    text = _Text(limit)
    text.write(value, 0)
    return "".join(text.pieces)[:limit]


_MAX_DEPTH = 50


class _Text:
    def __init__(self, limit: int) -> None:
        self.pieces: list[str] = []
        self.room = limit

    def _put(self, piece: str) -> None:
        self.pieces.append(piece)
        self.room -= len(piece)

    def write(self, value: object, depth: int) -> None:
        room = max(self.room, 0)
        if depth > _MAX_DEPTH:
            self._put("...")
        elif isinstance(value, Inert):
            is_bare = value.arguments is None and not value.parts
            self._put(f"<{value.name[:room]}{'' if is_bare else ' '}")
            shown = (*(value.arguments or ())[:room], *value.parts[:room])
            self._write_all(shown, ">", depth)
        elif isinstance(value, InertDict):
            self._put("{")
            self._write_all(value.pairs, "}", depth, is_pairs=True)
        elif isinstance(value, InertSet):
            self._put("{" if value.members else "set(")
            self._write_all(value.members, "}" if value.members else ")", depth)
        elif isinstance(value, list):
            self._put("[")
            self._write_all(value, "]", depth)
        elif isinstance(value, tuple):
            self._put("(")
            self._write_all(value, ",)" if len(value) == 1 else ")", depth)
        elif isinstance(value, str | bytes | bytearray):
            self._put(repr(value[:room]))
        else:
            self._put(short_repr(value))

    def _write_all(
        self, members: Sequence[Any], end: str, depth: int, *, is_pairs: bool = False
    ) -> None:
        for number, member in enumerate(members):
            if self.room <= 0:
                break
            if number:
                self._put(", ")
            if is_pairs:
                self.write(member[0], depth + 1)
                self._put(": ")
            self.write(member[1] if is_pairs else member, depth + 1)
        self._put(end)


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
        UnreadableItem: the text is not one reference: it is a pickled object or method, or not a
            pickle at all.
    """
    data = unescape(text)
    match = _REFERENCE.fullmatch(data)
    try:
        if match is None:
            raise ValueError(f"not a pickled reference to a function: {data[:80]!r}")
        return python3_name(match["module"].decode(), match["name"].decode())
    except ValueError as error:
        raise unreadable("does not name one function", error) from error


def load_class_names(text: str | bytes) -> tuple[str, ...]:
    """Return the names of the error classes that Python 2 pickled, as ``module:name``.

    None (no classes), one class, and any tuple, list, set, frozenset or dict of classes, nested
    or not, are read. Nothing is imported and nothing is called. Python 2's names become those
    that the classes have in Python 3 (``IOError`` is ``OSError``), so they can be compared with
    ``names.class_names``; some have more than one.

    Raises:
        UnreadableItem: there is something else in the pickle.
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
        if id(node) not in seen:
            seen.add(id(node))
            todo.extend(reversed(_elements(node)))


def _elements(node: object) -> list[object]:
    if isinstance(node, tuple | list):
        return list(node)
    if isinstance(node, InertSet):
        return node.members
    if isinstance(node, InertDict):
        return [key for key, _ in node.pairs]
    if (
        isinstance(node, Inert)
        and node.name in ("builtins:set", "builtins:frozenset")
        and node.arguments is not None
        and len(node.arguments) == 1
        and isinstance(node.arguments[0], list | tuple)
        and not node.parts
    ):
        return list(node.arguments[0])
    raise TypeError(f"{show(node, 150)} is neither a class nor a collection of classes")
