"""The strings that Python 2's deferrable wrote: escaped pickles of protocol 0.

Owns the writing of these strings, byte for byte where Python 2 can be reproduced, and the reading
of values. The reading of names is in ``inert``. The one rule: a function reference and error
classes are read as *names*. Only ``loads``, which reads arguments, imports modules and creates
objects.

Source: CPython 2.7.18, ``Modules/cPickle.c`` (what it writes).
"""

import copyreg
import io
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from deferrable._codec import names as _names
from deferrable._codec.claims import check_claims
from deferrable._codec.inert import load_class_names, load_reference
from deferrable._codec.python2.errors import python2_name_of_error
from deferrable._codec.python2.names import is_python2_name, is_python2_path
from deferrable._codec.python2.order import in_python2_order, settled
from deferrable._codec.python2.text import escape, text_or_bytes, unescape, unreadable
from deferrable.errors import InvalidOptions, UnserializableCall

__all__ = [
    "dump_error_classes",
    "dump_reference",
    "dumps",
    "dumps_kwargs",
    "escape",
    "load_class_names",
    "load_reference",
    "loads",
    "unescape",
]

# --- Writing --------------------------------------------------------------------------------


def dumps(obj: object) -> str:
    """Return ``obj`` as Python 2's deferrable would have written it.

    ASCII text is written as Python 2's ``str``, which its literals are, and other text as its
    ``unicode``. So both generations write a call such as ``f("a")`` alike.

    The text is equal, byte for byte, to Python 2.7's for None, bool, int, float, text (its ASCII
    ``str``, its other ``unicode``) and tuples, lists, dicts and sets of these, given that Python 2
    held each of these objects at least twice while it wrote them, as it did for arguments of a
    call and for what lists and dicts hold. It cannot be promised for ASCII text that Python 2 held
    as ``unicode`` (``u"a"``), for what lies in a tuple inside another
    (Python 2 left out the memo mark of text that only such a tuple held), for one object used in
    two places (equal text that Python 2 happened to share), for dicts with keys other than text,
    bytes, integers and tuples of them, for dicts that grew from a presized literal of eight keys
    or more, and for objects of any other class. All of these can be *read* there.

    A dict or set is written in the order that Python 2 would have given it, so equal ones give
    equal text. ``bytes`` arrive as Python 2's ``str``.

    Raises:
        Exception: whatever the object's own pickling raises; nothing is wrapped here.
    """
    return escape(_dump(obj))


def dumps_kwargs(kwargs: Mapping[str, object]) -> str:
    """Return keyword arguments as Python 2 wrote them: a list of pairs, sorted by keyword."""
    return dumps([(key, kwargs[key]) for key in sorted(kwargs)])


def _dump(obj: object) -> bytes:
    file = io.BytesIO()
    _Python2Pickler(file, 0, fix_imports=True).dump(obj)
    return file.getvalue()


class _Python2Pickler(pickle._Pickler):
    """CPython's pickler in Python, writing what cPickle 2.7 wrote where the two differ.

    cPickle numbers its memo from 1, gives no number to text of one character, writes integers up
    to 64 bits as ``I``, floats with 17 digits, and escapes only backslash and newline in text.
    Objects of other classes are readable there, without being the same bytes.
    """

    dispatch: ClassVar[dict[type, Callable[[Any, Any], None]]] = dict(pickle._Pickler.dispatch)

    if TYPE_CHECKING:  # offered to subclasses by CPython, left out by typeshed
        memo: dict[int, tuple[int, object]]
        write: Callable[[bytes], object]

        def get(self, i: int) -> bytes: ...
        def save(self, obj: object) -> None: ...
        def save_reduce(self, func: object, args: object, *, obj: object) -> None: ...

    def memoize(self, obj: object) -> None:
        number = len(self.memo) + 1
        self.write(b"p%d\n" % number)
        self.memo[id(obj)] = number, obj

    def reducer_override(self, obj: Any) -> Any:
        """Take objects apart as protocol 2 does; Python 2 can put these together, too.

        Protocol 0 cannot write ``__slots__``, and writes locks and sockets that nobody can read.
        """
        cls: Any = type(obj)
        by_default = (
            cls.__reduce_ex__ is object.__reduce_ex__
            and cls.__reduce__ is object.__reduce__
            and not (cls in self.dispatch or cls in copyreg.dispatch_table or issubclass(cls, type))
        )
        return obj.__reduce_ex__(2) if by_default else NotImplemented

    def save_int(self, obj: int) -> None:
        in_64_bits = -(1 << 63) <= obj < 1 << 63
        self.write(b"I%d\n" % obj if in_64_bits else f"L{obj}L\n".encode())

    def save_float(self, obj: float) -> None:
        self.write(f"F{obj:.17g}\n".encode())

    def save_str(self, obj: str) -> None:
        if obj.isascii():
            # Python 2 writes its byte strings by repr, which is what ours do with bytes.
            self.write(b"S" + repr(obj.encode())[1:].encode() + b"\n")
        else:
            raw = obj.replace("\\", "\\u005c").replace("\n", "\\u000a")
            self.write(b"V" + raw.encode("raw-unicode-escape") + b"\n")
        if len(obj) > 1:
            self.memoize(obj)

    def save_dict(self, obj: dict[object, object]) -> None:
        self.write(b"(d")
        self.memoize(obj)
        for key in in_python2_order(obj):
            self.save(key)
            self.save(obj[key])
            self.write(b"s")

    def save_set(self, obj: set[object] | frozenset[object]) -> None:
        self.save(type(obj))
        self.write(b"(")
        self.save(settled(in_python2_order(obj), obj))
        self.write(b"tR")
        if id(obj) in self.memo:  # a frozenset that reaches itself: drop this one, take that
            self.write(b"0" + self.get(self.memo[id(obj)][0]))
        else:
            self.memoize(obj)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        path = name or getattr(obj, "__qualname__", None) or obj.__name__
        # What typeshed leaves out is ignored here.
        module = pickle.whichmodule(obj, path)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        if module in _names.MAIN_NAMES:
            self._save_from_main(obj, path)
        else:
            super().save_global(obj, name)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    def _save_from_main(self, obj: object, path: str) -> None:
        module = _names.importable_main(path)
        parent_path, _, name = path.rpartition(".")
        if parent_path:
            parent: object = sys.modules["__main__"]
            for part in parent_path.split("."):
                parent = getattr(parent, part)
            self.save_reduce(getattr, (parent, name), obj=obj)
        else:
            self.write(f"c{module}\n{name}\n".encode("ascii"))
            self.memoize(obj)

    dispatch |= {
        int: save_int,
        float: save_float,
        str: save_str,
        dict: save_dict,
        set: save_set,
        frozenset: save_set,
        FunctionType: save_global,
    }


# --- Writing names --------------------------------------------------------------------------


def dump_reference(module: str, name: str) -> str:
    """Return the text by which Python 2 finds the function ``name`` of ``module``.

    Raises:
        UnserializableCall: Python 2 cannot look that up: it finds names that stand at the top
            of a module, in ASCII.
    """
    if not is_python2_path(module) or not is_python2_name(name):
        raise UnserializableCall(
            f"the classic serializer cannot name {module}:{name} so that Python 2 finds it; "
            f"define the function at the top level of a module, or use serializer='pickle'"
        )
    return escape(f"c{module}\n{name}\np1\n.".encode("ascii"))


def dump_error_classes(classes: Iterable[type[BaseException]] | None) -> str:
    """Return error classes as Python 2 reads them: a tuple of references, or None.

    ``OSError`` becomes Python 2's ``EnvironmentError``, which alone means as much there.

    Raises:
        InvalidOptions: a class that Python 2 does not have, or could not find by name. A Python 2
            consumer would leave an item with one stuck, so it is refused here. Classes outside the
            standard library are assumed to exist there, too.
    """
    if classes is None:
        return escape(b"N.")
    references = dict.fromkeys(map(_python2_error, classes))
    if not references:
        return escape(b"(t.")
    parts = [
        f"c{module}\n{name}\np{number}\n"
        for number, (module, name) in enumerate(references, start=1)
    ]
    return escape(f"({''.join(parts)}tp{len(parts) + 1}\n.".encode("ascii"))


def _python2_error(cls: type[BaseException]) -> tuple[str, str]:
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        raise InvalidOptions(f"error_classes holds {cls!r}, which is not an exception class")
    reference = python2_name_of_error(cls)
    if reference is None:
        nearest = next(filter(python2_name_of_error, cls.__mro__), Exception)
        raise InvalidOptions(
            f"error_classes holds {_names.name_of(cls)}, which Python 2 does not have or could "
            f"not find by name, so its consumers could not read the item; name a class that "
            f"both have ({nearest.__name__} is the nearest), or use serializer='pickle'"
        )
    return reference


# --- Reading values -------------------------------------------------------------------------


def loads(text: str | bytes) -> Any:
    """Return the object that Python 2's deferrable, or ``dumps``, wrote.

    Each Python 2 byte string is decided alone: text if it is UTF-8, otherwise bytes. This runs the
    pickle, as Python 2 did: it imports modules and calls their functions.

    Raises:
        UnreadableItem: the text or the pickle is broken, a module or class is missing, or a class
            of the user raised while its object was made; always with that error as ``__cause__``.
            Only KeyboardInterrupt passes.
    """
    data = unescape(text)
    try:
        check_claims(data)
        return _Python2Unpickler(io.BytesIO(data)).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # BaseException: a pickle that exits the process must not end one consumer after another.
        raise unreadable("does not unpickle", error) from error


class _Python2Unpickler(pickle._Unpickler):
    """CPython's unpickler in Python: the one in C knows a single encoding for all strings."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    if TYPE_CHECKING:  # offered to subclasses by CPython, left out by typeshed
        stack: list[Any]

    _decode_string = staticmethod(text_or_bytes)

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class("__main__" if _names.is_main(module) else module, name)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if function in (date, datetime, time) and arguments and isinstance(arguments[0], str):
            # Their one argument is packed bytes, which may happen to be UTF-8.
            arguments = (arguments[0].encode(), *arguments[1:])
        self.stack[-1] = function(*arguments)

    dispatch[pickle.REDUCE[0]] = load_reduce
