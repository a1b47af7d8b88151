"""What simulated machines have in common: they serve while entered."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Served(ABC):
    """An async context manager that serves while entered."""

    @abstractmethod
    async def start(self) -> None:
        """Begins to serve. Raises OSError where it cannot."""

    @abstractmethod
    async def stop(self) -> None:
        """Serves no more."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
