"""The two methods of a context manager that closes itself at the end of ``async with``."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from deferrable._wrong_api import AsyncWith

__all__ = ["Closing"]


class Closing(AsyncWith, ABC):
    """Closed by itself, or at the end of an ``async with`` block."""

    @abstractmethod
    async def close(self) -> None:
        """Close it. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
