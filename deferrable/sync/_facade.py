"""How a blocking method is made from an awaitable one.

Owns the adapter, which keeps signature, types and docstring.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from types import MethodType, TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast

from deferrable._wrong_api import PlainWith
from deferrable.aio._contract.loops import blocked_loop
from deferrable.sync._door import refuse_portal_thread
from deferrable.sync._portal import portal

__all__ = ["ClosingFacade", "Facade", "blocking", "core_of", "made_like"]

C = TypeVar("C")
F = TypeVar("F")
P = ParamSpec("P")
R = TypeVar("R")


class _Closeable(Protocol):
    async def close(self) -> None: ...


Core = TypeVar("Core", bound=_Closeable)


class Facade(Generic[C]):
    """A blocking wrapper around an object of the asyncio API."""

    def __init__(self, core: C) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"<blocking {self._core!r}>"


def blocking(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
    undo: Callable[[C, R], Coroutine[Any, Any, object]] | None = None,
) -> Callable[Concatenate[Facade[C], P], R]:
    """A method of a facade that waits for the method of its core.

    Args:
        method: of the core; an adapter's override is used.
        undo: takes back, from the core, a result that an interrupt leaves unclaimed.

    Raises:
        CalledFromEventLoop: called on the portal's own thread; it names the method to await.
    """

    @functools.wraps(method)
    def wait(self: Facade[C], *args: P.args, **kwargs: P.kwargs) -> R:
        # By the class of the facade: the method may be of a base that users do not know.
        refuse_portal_thread(
            f"await {type(self).__name__}.{method.__name__}(...) of deferrable.aio"
        )
        core = self._core
        call = getattr(core, method.__name__)
        cores = {name: core_of(value) for name, value in kwargs.items()}
        coroutine = call(*map(core_of, args), **cores)
        take_back = None if undo is None else functools.partial(undo, core)
        result: R = portal().run(coroutine, take_back)
        return result

    return cast(Callable[Concatenate[Facade[C], P], R], wait)


class _MadeLike:
    """The constructor of a facade, called like that of its core's class.

    The class is loaded on first use, because its adapter may need an extra.
    """

    def __init__(
        self, load: Callable[[], Callable[..., object]], construct: Callable[..., None]
    ) -> None:
        functools.update_wrapper(self, construct)
        self._load = load
        self._construct = construct

    @property
    def __signature__(self) -> inspect.Signature:
        core = inspect.signature(self._load())
        myself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        return core.replace(parameters=[myself, *core.parameters.values()], return_annotation=None)

    def __get__(self, facade: object, owner: type | None = None) -> object:
        return self if facade is None else MethodType(self, facade)

    def __call__(self, facade: object, /, *args: Any, **kwargs: Any) -> None:
        self._construct(facade, self._load()(*args, **kwargs))


def made_like(
    load: Callable[[], Callable[P, C]],
) -> Callable[[Callable[[F, C], None]], Callable[Concatenate[F, P], None]]:
    """Make a facade's constructor take the arguments of its core, instead of the core.

    Args:
        load: returns the class of the core; called when a facade is made.
    """

    def decorate(construct: Callable[[F, C], None]) -> Callable[Concatenate[F, P], None]:
        return cast(Callable[Concatenate[F, P], None], _MadeLike(load, construct))

    return decorate


class ClosingFacade(Facade[Core], PlainWith):
    """A facade that can be closed, also by the end of a ``with`` block."""

    def close(self) -> None:
        """Close its connections. May be called twice."""
        refuse_portal_thread(f"await {type(self._core).__qualname__}.close() of deferrable.aio")
        blocking = blocked_loop.set(_running_loop())
        try:
            portal().run(self._core.close())
        finally:
            blocked_loop.reset(blocking)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def core_of(value: Any) -> Any:
    """The core of a facade; any other object is returned as it is."""
    return value._core if isinstance(value, Facade) else value
