"""Imports the code of a plugin in a thread of its own: an import that never ends keeps nobody else's from beginning."""

import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from plugins.api.loading import PluginError, load_entry, place_in, unload

IMPORT_S = 30.0
"""How long the import of a plugin may take; the slowest of ours takes some seconds on a small machine."""


class EndlessImport(PluginError):
    """The import of a plugin has not ended in time, and goes on."""


def entry_in_time(package: str, entry: str, *, folder: Path, requires: Sequence[str] = ()) -> Any:  # noqa: ANN401 - see load_entry
    """As load_entry(), but raises EndlessImport if the import has not ended within IMPORT_S, with where it is.

    Nothing can stop it then: it goes on until the process ends, which it does not delay.
    """
    load = partial(load_entry, package, entry, folder=folder, requires=requires)
    thread = _Import(load, package)
    thread.start()
    thread.join(IMPORT_S)
    if thread.is_alive():
        thread.unwanted = True
        where = place_in(thread.frames(), folder)
        raise EndlessImport(f"{where}: {entry} cannot be loaded: its import has not ended within {IMPORT_S:g} s")
    if thread.error is not None:
        raise thread.error
    return thread.entry


class _Import(Thread):
    """One import. entry, error: what came of it. unwanted: nobody waits for it any more."""

    def __init__(self, load: Callable[[], Any], package: str) -> None:
        super().__init__(name=f"import of {package}", daemon=True)
        self.entry: Any = None
        self.error: PluginError | None = None
        self.unwanted = False
        self._load = load
        self._package = package

    def run(self) -> None:
        """Imports it."""
        try:
            self.entry = self._load()
        except PluginError as error:
            self.error = error
        if self.unwanted:
            unload(self._package)

    def frames(self) -> list[traceback.FrameSummary]:
        """Where it is now, the innermost call last."""
        frame = sys._current_frames().get(self.ident or 0)  # noqa: SLF001 - public by its documentation
        return list(traceback.extract_stack(frame)) if frame else []
