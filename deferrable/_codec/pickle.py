"""The strings of Python 3 pickles: base64, with the same names in every process.

Owns that text in both directions, and what happens to objects of ``__main__``. The one rule:
nothing is written that another process would look for in *its* ``__main__``, unless there is no
other name.
"""

import binascii
import io
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from deferrable._codec import names as _names
from deferrable._codec.claims import check_claims
from deferrable._codec.refusals import describe, reject
from deferrable.errors import UnreadableItem

# 5 is the newest protocol that every Python we support (3.11 and later) reads, and it writes
# bytearrays and buffers as they are. A fixed number, because a newer Python's own default would
# be unreadable to consumers that are upgraded last.
_PROTOCOL = 5
_GLOBALS_ON_STACK = (b"\x80\x04", b"\x80\x05")
"""The begin of pickles that name classes and functions only by STACK_GLOBAL."""
_END_OF_MAIN = b"_main__"
"""Of ``__main__`` and of ``__mp_main__``. ``find`` looks for it: ``in`` takes three times as long,
because it first tries whether it was given a number."""


def to_base64(value: object, is_local: bool = False) -> str:
    """The text of `value`; `is_local`: this process alone reads it."""
    return binascii.b2a_base64(_pickled(value, is_local), newline=False).decode("ascii")


def _pickled(value: object, is_local: bool) -> bytes:
    data = pickle.dumps(value, _PROTOCOL)
    if is_local or data.find(_END_OF_MAIN) < 0:
        return data
    # Perhaps only a text contains that name; this pickler, in Python and slow, checks the objects.
    file = io.BytesIO()
    _MainPickler(file, _PROTOCOL).dump(value)
    return file.getvalue()


class _MainPickler(pickle._Pickler):
    """Writes objects of ``__main__`` under the name by which other processes import them."""

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


def from_base64(field: str, text: Any) -> Any:
    if not isinstance(text, str):
        reject(field, text, "text")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
        if data.find(b"r") >= 0 or data.find(b"p") >= 0:  # the opcodes that claim, or just letters
            check_claims(data)
        if data.startswith(_GLOBALS_ON_STACK) and data.find(pickle.STACK_GLOBAL) < 0:
            return pickle.loads(data)  # noqa: S301  # as below, and it names nothing
        return _MainUnpickler(io.BytesIO(data)).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # BaseException: a pickle that exits the process must not end one consumer after another.
        raise UnreadableItem(
            f"the item's {field} cannot be unpickled: {describe(error)}"
        ) from error


class _MainUnpickler(pickle.Unpickler):
    """Finds objects of a module that is the ``__main__`` of this process."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        here = "__main__" if _names.is_main(module_name) else module_name
        return super().find_class(here, global_name)
