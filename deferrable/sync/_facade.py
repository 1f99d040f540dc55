"""How a blocking method is made of an awaitable one.

Owns the adapter that keeps signature, types and docstring. It may not know what the method does.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

from deferrable.sync.door import refuse_portal_thread
from deferrable.sync.portal import portal

__all__ = ["ClosingFacade", "Facade", "blocking", "core_of"]

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")


class Facade(Generic[C]):
    """Something blocking in front of an object of the face that awaits."""

    def __init__(self, core: C) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"<blocking {self._core!r}>"


class ClosingFacade(Facade[C], ABC):
    """One that is closed, by itself or at the end of a ``with`` block."""

    @abstractmethod
    def close(self) -> None:
        """Close it. Twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def blocking(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Facade[C], P], R]:
    """A method of a facade that waits for its core's.

    Raises:
        CalledFromEventLoop: called on the portal's own thread; it names the method to await.
    """

    @functools.wraps(method)
    def wait(self: Facade[C], *args: P.args, **kwargs: P.kwargs) -> R:
        refuse_portal_thread(f"await {method.__qualname__}(...) of deferrable.aio")
        # Looked up on the core, so that an adapter's own override counts.
        call = getattr(self._core, method.__name__)
        cores = {name: core_of(value) for name, value in kwargs.items()}
        result: R = portal().run(call(*map(core_of, args), **cores))
        return result

    return cast(Callable[Concatenate[Facade[C], P], R], wait)


def core_of(value: Any) -> Any:
    """What stands behind a facade; anything else is itself."""
    return value._core if isinstance(value, Facade) else value
