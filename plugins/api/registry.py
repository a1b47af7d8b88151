"""Finds plugins by folder and loads their code.

Every load gets a package name of its own, so that a changed plugin can be loaded beside the one that still runs.
"""

import importlib.util
import inspect
import itertools
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from plugins.api.document import DocumentError, Fault
from plugins.api.function import function_complaints
from plugins.api.manifest import Manifest, parse_manifest

MANIFEST = "plugin.yaml"
_loads = itertools.count(1)


class PluginError(Exception):
    """A plugin cannot be loaded; the message names the folder and the reason."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A loaded plugin: what it says of itself, where it lies, and its entry (see plugins.api.driver and .function).

    package: the name under which its modules were imported, another one at each load.
    """

    manifest: Manifest
    folder: Path
    entry: Any
    package: str = ""


def plugin_folders(roots: Iterable[Path]) -> Iterator[Path]:
    """The folders under these roots that hold a plugin.yaml, in order of name."""
    for root in roots:
        if root.is_dir():
            yield from sorted(folder for folder in root.iterdir() if (folder / MANIFEST).is_file())


def read_manifest(folder: Path) -> Manifest:
    """The folder's manifest. Raises PluginError with every fault in it."""
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_text(encoding="utf-8"), source=str(path))
    except (DocumentError, OSError, UnicodeDecodeError) as error:
        raise PluginError(f"{folder}: {error}") from None


def load_plugin(folder: Path) -> Plugin:
    """Imports the plugin's entry and checks what it is.

    Raises PluginError: bad manifest, missing extra, code that does not import (with file and line), or an entry that
    is not what its kind promises. Nothing of a plugin that was refused stays loaded.
    """
    manifest = read_manifest(folder)
    package = _package(folder, f"dinrail_plugin_{manifest.id.replace('-', '_')}_{next(_loads)}")
    plugin = None
    try:
        entry = _entry(package, manifest, folder)
        complaints = driver_complaints(entry) if manifest.kind == "driver" else function_complaints(entry, manifest)
        if told := ", ".join(complaints):
            what = "driver" if manifest.kind == "driver" else "table of functions"
            raise PluginError(f"{folder}: {manifest.entry} is no {what}: {told}")
        plugin = Plugin(manifest, folder, entry, package)
    finally:
        if plugin is None:
            _unload(package)
    return plugin


def _entry(package: str, manifest: Manifest, folder: Path) -> Any:  # noqa: ANN401 - what it is is for load_plugin to see
    """What the manifest names, imported. Raises PluginError whatever the plugin's code does: it costs itself alone."""
    module_name, _, attribute = manifest.entry.partition(":")
    try:
        return getattr(importlib.import_module(f"{package}.{module_name}"), attribute)
    except ModuleNotFoundError as error:
        hint = f"; install dinrail[{','.join(manifest.requires)}]" if manifest.requires else ""
        raise PluginError(f"{place_of(error, folder)}: module {error.name!r} is missing{hint}") from error
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
        raise PluginError(f"{place_of(error, folder)}: {manifest.entry} cannot be loaded: {what}") from error


def unload_plugin(plugin: Plugin) -> None:
    """Forgets the modules of a plugin that nobody uses any more."""
    _unload(plugin.package)


def driver_complaints(entry: object) -> Iterator[str]:
    """What the entry lacks to be a plugins.api.driver.Driver."""
    for name in ("connection", "group", "tag"):
        model = getattr(entry, name, None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            yield f"{name} is no pydantic model"
        elif model.model_config.get("extra") != "forbid":
            yield f"the model {name} would ignore a misspelt key (extra='forbid' is missing)"
    for name, arguments, keywords in (("value_type", 1, ()), ("check", 1, ()), ("open", 1, ("clock",))):
        method = getattr(entry, name, None)
        if not callable(method):
            yield f"{name}() is missing"
            continue
        try:
            inspect.signature(method).bind(*[None] * arguments, **dict.fromkeys(keywords))
        except TypeError as error:
            yield f"{name}() cannot be called as the host does: {error}"


def place_of(error: BaseException, folder: Path) -> str:
    """Where in the folder's code the error arose, as file:line; the folder if it arose elsewhere."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(folder)


class Registry:
    """The plugins of one kind under some folders, each loaded when first asked for."""

    def __init__(self, roots: Iterable[Path], *, kind: Literal["driver", "function"]) -> None:
        self._roots = tuple(roots)
        self._kind = kind
        self._loaded: dict[str, Plugin] = {}

    def available(self) -> Mapping[str, Path]:
        """The folder of each plugin by id.

        One whose manifest is bad stands under its folder's name, so that whoever asks for it is told why; it costs no
        other plugin anything.
        """
        return {plugin_id: folders[0] for plugin_id, folders in self._found().items()}

    def load(self, plugin_id: str) -> Plugin:
        """The plugin with this id. Raises PluginError if there is none, if two claim it, or if it cannot be loaded."""
        if plugin_id not in self._loaded:
            self._loaded[plugin_id] = load_plugin(self._folder(plugin_id))
        return self._loaded[plugin_id]

    def fresh(self, plugin_id: str) -> Plugin:
        """The plugin as its folder is now, loaded beside the one in use, which stays until adopt().

        Raises PluginError as load() does.
        """
        folder = self._folder(plugin_id)
        _forget_bytecode(folder)
        return load_plugin(folder)

    def adopt(self, plugin: Plugin) -> None:
        """This is the plugin with its id from now on; the one before is unloaded."""
        before = self._loaded.get(plugin.manifest.id)
        self._loaded[plugin.manifest.id] = plugin
        if before is not None:
            unload_plugin(before)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders in which plugins are looked for."""
        return self._roots

    def loaded(self) -> tuple[Plugin, ...]:
        """The plugins loaded so far."""
        return tuple(self._loaded.values())

    def _folder(self, plugin_id: str) -> Path:
        found = self._found()
        if plugin_id not in found:
            raise PluginError(f"no {self._kind} {plugin_id!r}; there are: {', '.join(found) or 'none'}")
        first, *others = found[plugin_id]
        if others:
            raise PluginError(f"{others[0]}: id {plugin_id!r} is taken by {first}; rename one")
        return first

    def _found(self) -> dict[str, list[Path]]:
        """Every folder that claims an id; then those that no id is known of, by their names."""
        found: dict[str, list[Path]] = {}
        unread: list[Path] = []
        for folder in plugin_folders(self._roots):
            try:
                manifest = read_manifest(folder)
            except PluginError:
                unread.append(folder)
            else:
                if manifest.kind == self._kind:
                    found.setdefault(manifest.id, []).append(folder)
        for folder in unread:
            found.setdefault(folder.name, [folder])
        return found


def _package(folder: Path, name: str) -> str:
    """Makes an empty package over the folder, so that its modules may import one another relatively."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = importlib.util.module_from_spec(spec)
    importlib.invalidate_caches()  # files that are new would not be seen within the resolution of the folder's clock
    return name


def _unload(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _forget_bytecode(folder: Path) -> None:
    """Python takes compiled code for current if size and second of the source agree: too coarse for two quick edits."""
    for source in folder.rglob("*.py"):
        with suppress(OSError):
            Path(importlib.util.cache_from_source(str(source))).unlink()


__all__ = [
    "Fault",
    "Plugin",
    "PluginError",
    "Registry",
    "driver_complaints",
    "load_plugin",
    "place_of",
    "plugin_folders",
    "read_manifest",
    "unload_plugin",
]
