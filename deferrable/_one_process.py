"""Objects that cannot leave their process.

Owns the error of an attempt to pickle one, as ``multiprocessing`` does for the arguments of a
process that it spawns.
"""

from typing import NoReturn, Self

__all__ = ["OneProcess"]


class OneProcess:
    """Has connections, locks and threads, which another process cannot use."""

    __slots__ = ()

    def __copy__(self) -> Self:
        # By default `copy` calls `__getstate__`, too.
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __getstate__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled or copied deeply: its connections and locks are of this "
            "process. In another process, import the module that makes it. A job can be passed: it "
            "is pickled by the name of its function"
        )
