"""Faults of files as lines for people."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from plugins.api.document import Fault


def shown(faults: Iterable[Fault]) -> Iterator[str]:
    """The faults as lines, with paths below the working folder shortened."""
    here = f"{Path.cwd()}{os.sep}"
    for fault in faults:
        yield str(fault).removeprefix(here)
