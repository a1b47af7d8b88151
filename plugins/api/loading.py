"""Loads the code of a plugin from its folder.

Every load gets a package name of its own, so that a changed plugin can be loaded beside the one that still runs. It
imports little: the workers of the compute service load plugins with this alone.
"""

import importlib.util
import itertools
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from traceback import FrameSummary
from typing import Any

_loads = itertools.count(1)


class PluginError(Exception):
    """A plugin cannot be loaded; the message names the folder and the reason."""


def package_of(folder: Path, plugin_id: str) -> str:
    """The name of a new, empty package over the folder, so that its modules may import one another relatively."""
    name = f"dinrail_plugin_{plugin_id.replace('-', '_')}_{next(_loads)}"
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = importlib.util.module_from_spec(spec)
    importlib.invalidate_caches()  # files that are new would not be seen within the resolution of the folder's clock
    return name


def load_entry(package: str, entry: str, *, folder: Path, requires: Sequence[str] = ()) -> Any:  # noqa: ANN401 - see below
    """What `module:OBJECT` names in the package; whether it is what it should be is for the caller to see.

    Raises PluginError whatever the plugin's code does, with file and line: it costs itself alone.
    """
    module_name, _, attribute = entry.partition(":")
    try:
        return getattr(importlib.import_module(f"{package}.{module_name}"), attribute)
    except ModuleNotFoundError as error:
        hint = f"; install dinrail[{','.join(requires)}]" if requires else ""
        raise PluginError(f"{place_of(error, folder)}: module {error.name!r} is missing{hint}") from error
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
        raise PluginError(f"{place_of(error, folder)}: {entry} cannot be loaded: {what}") from error


def unload(package: str) -> None:
    """Forgets the package's modules."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def place_of(error: BaseException, folder: Path) -> str:
    """Where in the folder's code the error arose, as file:line; the folder if it arose elsewhere."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    return place_in(traceback.extract_tb(error.__traceback__), folder)


def place_in(frames: Iterable[FrameSummary], folder: Path) -> str:
    """Where in the folder's code the last of these calls is, as file:line; the folder if none is in it."""
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(folder)
