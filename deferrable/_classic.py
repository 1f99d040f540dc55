"""The strings that Python 2's deferrable wrote: escaped pickles of protocol 0.

Owns that text in both directions, down to the byte where Python 2 can be reproduced, and what
Python 2 calls things. Knows nothing of items, and nothing of Python 3's own serializer. The one
rule: a function reference and error classes are read as *names*; only ``loads``, which reads
arguments, imports modules and makes objects.

Sources: CPython 2.7.18, ``Modules/cPickle.c`` (what it writes), ``Objects/stringobject.c``
(``string_escape``), ``Objects/dictobject.c`` and ``Objects/setobject.c`` (their order).
"""

import codecs
import copyreg
import io
import pickle
import re
import reprlib
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from deferrable import _names
from deferrable.errors import InvalidOptions, UnreadableItem, UnserializableCall

# --- The text around a pickle ---------------------------------------------------------------

_ESCAPED: dict[int, str] = {
    **{code: f"\\x{code:02x}" for code in range(256) if not 32 <= code < 127},
    **{ord(char): "\\" + letter for char, letter in ("\tt", "\nn", "\rr", "\\\\", "''")},
}


def escape(data: bytes) -> str:
    """Return ``data`` as Python 2's ``data.encode("string_escape")`` wrote it: pure ASCII."""
    return data.decode("latin-1").translate(_ESCAPED)


def unescape(text: str | bytes) -> bytes:
    """Return the bytes that ``escape`` was given.

    Raises:
        UnreadableItem: ``text`` is neither text nor bytes, is not ASCII, or ends inside an
            escape.
    """
    try:
        return codecs.escape_decode(text.encode("ascii") if isinstance(text, str) else text)[0]
    except Exception as error:
        raise _unreadable("is not text that Python 2 escaped", error) from error


def _unreadable(what: str, error: BaseException) -> UnreadableItem:
    return UnreadableItem(f"a classic string {what}: {type(error).__name__}: {error}")


# --- Writing --------------------------------------------------------------------------------


def dumps(obj: object) -> str:
    """Return ``obj`` as Python 2's deferrable would have written it.

    The text is equal, byte for byte, to Python 2.7's for None, bool, int, float, text (Python
    2's ``unicode``) and tuples, lists, dicts and sets of these, given that Python 2 held each of
    these objects at least twice while it wrote them, as it did for arguments of a call and for
    what lists and dicts hold. It cannot be promised for what lies in a tuple inside another
    (Python 2 left out the memo mark of text that only such a tuple held), for one object used in
    two places (equal text that Python 2 happened to share), for dicts with keys other than text,
    bytes, integers and tuples of them, for dicts that grew from a presized literal of eight keys
    or more, and for objects of any other class. All of these can be *read* there.

    A dict or set is written in the order that Python 2 would have given it, having none of its
    own, so equal ones give equal text. ``bytes`` arrive as Python 2's ``str``.

    Raises:
        Exception: whatever the object's own pickling raises; nothing is wrapped here.
    """
    return escape(_dump(obj))


def dumps_kwargs(kwargs: Mapping[str, object]) -> str:
    """Return keyword arguments as Python 2 wrote them: a list of pairs, sorted by keyword.

    Keywords are written as Python 2's native ``str`` where they are ASCII, as they were there.
    """
    return dumps([(_Keyword(key), kwargs[key]) for key in sorted(kwargs)])


class _Keyword(str):
    """A name in a call, which was a byte string in Python 2."""

    __slots__ = ()


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
        """Take objects apart as protocol 2 does, which Python 2 can put together as well.

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
        raw = obj.replace("\\", "\\u005c").replace("\n", "\\u000a")
        self.write(b"V" + raw.encode("raw-unicode-escape") + b"\n")
        self._memoize_longer_than_one(obj)

    def save_keyword(self, obj: _Keyword) -> None:
        if obj.isascii():
            self.write(b"S" + repr(obj.encode())[1:].encode() + b"\n")
            self._memoize_longer_than_one(obj)
        else:
            self.save_str(obj)

    def _memoize_longer_than_one(self, obj: str) -> None:
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
        self.save(_settled(in_python2_order(obj), obj))
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
        _Keyword: save_keyword,
        dict: save_dict,
        set: save_set,
        frozenset: save_set,
        FunctionType: save_global,
    }


# --- The order of Python 2's dicts and sets -------------------------------------------------


def in_python2_order(keys: Iterable[object]) -> list[object]:
    """Return ``keys`` in the order in which a Python 2 dict or set that was given them has them.

    That of a 64-bit build with hash randomization off, its default, and of a dict that grew key
    by key. Keys of another kind than text, bytes, integers and tuples of these leave the order
    as it is.
    """
    arrived = list(keys)
    hashes = [_python2_hash(key) for key in arrived]
    table: list[tuple[int, object] | None] = [None] * 8
    for used, (value, key) in enumerate(zip(hashes, arrived, strict=True), start=1):
        if value is None:
            return arrived
        _insert(table, value, key)
        if used * 3 >= len(table) * 2:
            table = _grown(table, used)
    return [entry[1] for entry in table if entry is not None]


def _insert(table: list[tuple[int, object] | None], value: int, key: object) -> None:
    mask = len(table) - 1
    place = perturb = value
    while table[place & mask] is not None:
        place = (place << 2) + place + perturb + 1
        perturb >>= 5
    table[place & mask] = (value, key)


def _grown(table: list[tuple[int, object] | None], used: int) -> list[tuple[int, object] | None]:
    size = 8
    while size <= used * (2 if used > 50_000 else 4):
        size *= 2
    grown: list[tuple[int, object] | None] = [None] * size
    for entry in table:
        if entry is not None:
            _insert(grown, *entry)
    return grown


_64_BITS = (1 << 64) - 1


def _python2_hash(key: object) -> int | None:
    """Return ``hash(key)`` of a 64-bit Python 2.7, as an unsigned number; None if not known."""
    if type(key) is str or type(key) is bytes:
        return _hash_of_codes(key if isinstance(key, bytes) else list(map(ord, key)))
    if type(key) is tuple:
        return _hash_of_tuple(key)
    if isinstance(key, int) and type(key) in (int, bool) and -(1 << 63) <= key < 1 << 63:
        return _not_minus_one(key & _64_BITS)
    return None


def _hash_of_codes(codes: bytes | list[int]) -> int:
    if not codes:
        return 0
    value = codes[0] << 7
    for code in codes:
        value = (1_000_003 * value & _64_BITS) ^ code
    return _not_minus_one(value ^ len(codes))


def _hash_of_tuple(key: tuple[object, ...]) -> int | None:
    value, factor = 0x345678, 1_000_003
    for left, element in zip(range(len(key) - 1, -1, -1), key, strict=True):
        part = _python2_hash(element)
        if part is None:
            return None
        value = (value ^ part) * factor & _64_BITS
        factor += 82_520 + 2 * left
    return _not_minus_one((value + 97_531) & _64_BITS)


def _not_minus_one(value: int) -> int:
    return value - 1 if value == _64_BITS else value


def _settled(ordered: list[object], unordered: set[object] | frozenset[object]) -> list[object]:
    """Return ``ordered``, or an order that no process's hash seed decides."""
    if all(_python2_hash(element) is not None for element in unordered):
        return ordered
    return sorted(unordered, key=lambda element: (type(element).__qualname__, repr(element)))


# --- Reading values -------------------------------------------------------------------------


def loads(text: str | bytes) -> Any:
    """Return the object that Python 2's deferrable, or ``dumps``, wrote.

    Each Python 2 byte string is decided by itself: text if it is UTF-8, else bytes. This runs
    what the pickle says, as Python 2 did: it imports modules and calls what they hold.

    Raises:
        UnreadableItem: the text or the pickle is broken, a module or class is not there, or a
            class of the user's raised while its object was made; always with that error as
            ``__cause__``. KeyboardInterrupt alone passes.
    """
    data = unescape(text)
    try:
        return _Python2Unpickler(io.BytesIO(data)).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # BaseException: a pickle that exits the process must not end one consumer after another.
        raise _unreadable("does not unpickle", error) from error


class _Python2Unpickler(pickle._Unpickler):
    """CPython's unpickler in Python: the one in C knows a single encoding for all strings."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    if TYPE_CHECKING:  # offered to subclasses by CPython, left out by typeshed
        stack: list[Any]

    def _decode_string(self, value: bytes) -> str | bytes:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value

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


# --- Reading names --------------------------------------------------------------------------


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
        raise _unreadable("is no pickle", error) from error


class _InertUnpickler(_Python2Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    if TYPE_CHECKING:
        proto: int

    def find_class(self, module: str, name: str) -> Inert:
        return Inert(_python3_name(module, name) if self.proto < 3 else f"{module}:{name}")

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


def _python3_name(module: str, name: str) -> str:
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}:{name}"


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
        return _python3_name(match["module"].decode(), match["name"].decode())
    except ValueError as error:
        raise _unreadable("does not name one function", error) from error


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
            names.update(dict.fromkeys(_RENAMED_ERRORS.get(reference, (reference,))))
    except TypeError as error:
        raise _unreadable("does not hold error classes", error) from error
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


# --- Writing names --------------------------------------------------------------------------


def dump_reference(module: str, name: str) -> str:
    """Return the text by which Python 2 finds the function ``name`` of ``module``.

    Raises:
        UnserializableCall: Python 2 cannot look that up: it finds names that stand at the top
            of a module, in ASCII.
    """
    if not _is_python2_path(module) or not _is_python2_name(name):
        raise UnserializableCall(
            f"the classic serializer cannot name {module}:{name} so that Python 2 finds it; "
            f"define the function at the top level of a module, or use serializer='pickle'"
        )
    return escape(f"c{module}\n{name}\np1\n.".encode("ascii"))


def _is_python2_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()


def _is_python2_path(module: str) -> bool:
    return all(map(_is_python2_name, module.split(".")))


def dump_error_classes(classes: Iterable[type[BaseException]] | None) -> str:
    """Return error classes as Python 2 reads them: a tuple of references, or None.

    ``OSError`` becomes Python 2's ``EnvironmentError``, which alone means as much there.

    Raises:
        InvalidOptions: a class that Python 2 does not have, or could not find by name. A Python
            2 consumer that met one would strand the item, so it is refused here. Classes
            outside the standard library are believed to exist there too.
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
        raise InvalidOptions(f"error_classes holds {cls!r}, which is no exception class")
    reference = _python2_name_of_error(cls)
    if reference is None:
        nearest = next(filter(_python2_name_of_error, cls.__mro__), Exception)
        raise InvalidOptions(
            f"error_classes holds {_names.name_of(cls)}, which Python 2 does not have or could "
            f"not find by name, so its consumers could not read the item; name a class that "
            f"both have ({nearest.__name__} is the nearest), or use serializer='pickle'"
        )
    return reference


def _python2_name_of_error(cls: type) -> tuple[str, str] | None:
    if not issubclass(cls, BaseException):
        return None
    module, _, name = _names.name_of(cls).partition(":")
    if module.partition(".")[0] in sys.stdlib_module_names:
        return _python2_errors().get(f"{module}:{name}")
    if module in _names.MAIN_NAMES or _names.why_unnameable(cls) is not None:
        return None
    return (module, name) if _is_python2_path(module) and _is_python2_name(name) else None


@cache
def _python2_errors() -> dict[str, tuple[str, str]]:
    """Return Python 3's name of each error in Python 2's library -> the module and name there."""
    known: dict[str, tuple[str, str]] = {}
    for line in _PYTHON2_ERRORS.strip().splitlines():
        module, *names = line.split()
        for name in names:
            python3_name = _python3_name(module, name)
            for alias in _RENAMED_ERRORS.get(python3_name, (python3_name,)):
                known.setdefault(alias, (module, name))

    return known


_OS_ERROR = ("builtins:OSError",)

_RENAMED_ERRORS: dict[str, tuple[str, ...]] = {
    "_thread:error": ("builtins:RuntimeError",),
    "builtins:EnvironmentError": _OS_ERROR,
    "builtins:IOError": _OS_ERROR,
    "builtins:WindowsError": _OS_ERROR,
    "mmap:error": _OS_ERROR,
    "pickle:PickleError": ("pickle:PickleError", "_pickle:PickleError"),
    "pickle:PicklingError": ("pickle:PicklingError", "_pickle:PicklingError"),
    "pickle:UnpicklingError": ("pickle:UnpicklingError", "_pickle:UnpicklingError"),
    "queue:Empty": ("queue:Empty", "_queue:Empty"),
    "resource:error": _OS_ERROR,
    "select:error": _OS_ERROR,
    "signal:ItimerError": ("signal:itimer_error",),
    "socket:error": _OS_ERROR,
    "socket:timeout": ("builtins:TimeoutError",),
    "sre_constants:error": ("re:error", "re:PatternError"),
    "ssl:CertificateError": ("ssl:SSLCertVerificationError",),
    "zipfile:BadZipfile": ("zipfile:BadZipFile",),
}
"""What a class of Python 2's library is called in Python 3, beyond what fix_imports knows.

Made by walking the library of a real 2.7.18 and comparing with 3.11 and 3.13.
"""

_PYTHON2_ERRORS = """
exceptions ArithmeticError AssertionError AttributeError BaseException BufferError BytesWarning
exceptions DeprecationWarning EOFError EnvironmentError Exception FloatingPointError FutureWarning
exceptions GeneratorExit ImportError ImportWarning IndentationError IndexError KeyError
exceptions KeyboardInterrupt LookupError MemoryError NameError NotImplementedError OverflowError
exceptions PendingDeprecationWarning ReferenceError RuntimeError RuntimeWarning StopIteration
exceptions SyntaxError SyntaxWarning SystemError SystemExit TabError TypeError UnboundLocalError
exceptions UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError UnicodeWarning
exceptions UserWarning ValueError Warning ZeroDivisionError
ConfigParser DuplicateSectionError Error InterpolationDepthError InterpolationError NoOptionError
ConfigParser InterpolationMissingOptionError InterpolationSyntaxError MissingSectionHeaderError
ConfigParser NoSectionError ParsingError
Cookie CookieError
Queue Empty Full
_csv Error
argparse ArgumentError ArgumentTypeError
binascii Error Incomplete
calendar IllegalMonthError IllegalWeekdayError
cookielib LoadError
copy Error
ctypes ArgumentError
decimal Clamped ConversionSyntax DecimalException DivisionByZero DivisionImpossible
decimal DivisionUndefined Inexact InvalidContext InvalidOperation Overflow Rounded Subnormal
decimal Underflow
email.errors BoundaryError CharsetError HeaderParseError MessageError MessageParseError
email.errors MultipartConversionError
ftplib Error error_perm error_proto error_reply error_temp
getopt GetoptError
httplib BadStatusLine CannotSendHeader CannotSendRequest HTTPException ImproperConnectionState
httplib IncompleteRead InvalidURL LineTooLong NotConnected ResponseNotReady
httplib UnimplementedFileMode UnknownProtocol UnknownTransferEncoding
io UnsupportedOperation
locale Error
mailbox Error ExternalClashError FormatError NoSuchMailboxError NotEmptyError
multiprocessing AuthenticationError BufferTooShort ProcessError TimeoutError
multiprocessing.managers RemoteError
multiprocessing.pool MaybeEncodingError
netrc NetrcParseError
nntplib NNTPDataError NNTPError NNTPPermanentError NNTPProtocolError NNTPReplyError
nntplib NNTPTemporaryError
optparse AmbiguousOptionError BadOptionError OptParseError OptionConflictError OptionError
optparse OptionValueError
pickle PickleError PicklingError UnpicklingError
poplib error_proto
shutil Error ExecError SpecialFileError
signal ItimerError
smtplib SMTPAuthenticationError SMTPConnectError SMTPDataError SMTPException SMTPHeloError
smtplib SMTPRecipientsRefused SMTPResponseException SMTPSenderRefused SMTPServerDisconnected
socket gaierror herror
sqlite3 DataError DatabaseError Error IntegrityError InterfaceError InternalError
sqlite3 NotSupportedError OperationalError ProgrammingError Warning
sre_constants error
ssl CertificateError SSLEOFError SSLError SSLSyscallError SSLWantReadError SSLWantWriteError
ssl SSLZeroReturnError
struct error
subprocess CalledProcessError
tarfile CompressionError ExtractError HeaderError ReadError StreamError TarError
termios error
unittest.case SkipTest
urllib ContentTooShortError
urllib2 HTTPError URLError
wave Error
webbrowser Error
xml.dom DOMException
xml.etree.ElementTree ParseError
xml.parsers.expat ExpatError
xml.sax._exceptions SAXException SAXNotRecognizedException SAXNotSupportedException
xml.sax._exceptions SAXParseException SAXReaderNotAvailable
xmlrpclib Error Fault ProtocolError ResponseError
zipfile BadZipfile LargeZipFile
zipimport ZipImportError
zlib error
"""
"""The errors of Python 2.7.18's library that Python 3 has too: module, then names."""
