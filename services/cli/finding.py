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

    def findings(self) -> Iterator[Finding]:
        """At least one."""
        ...
