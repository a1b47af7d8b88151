"""What `dinrail doctor` finds."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    """How it stands. WARN: it works, and will not for ever, or not for everybody."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """text: what was found and, unless it is well, the mend."""

    state: State
    text: str

    def __str__(self) -> str:
        return f"{self.state:<5} {self.text}"


class Check(Protocol):
    """Looks at one thing. Whatever it finds is a finding; it raises nothing."""

    @property
    def name(self) -> str:
        """What is looked at, for programs."""
        ...

    def findings(self) -> Iterator[Finding]:
        """None where there is nothing to look at."""
        ...


MOST_NAMED = 5


def named(names: list[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
