"""Finds plugins by folder and loads them: what they say of themselves, and their code."""

import importlib.util
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from plugins.api.document import DocumentError, Fault
from plugins.api.function import function_complaints
from plugins.api.importing import EndlessImport, entry_in_time
from plugins.api.loading import PluginError, package_of, place_of, unload
from plugins.api.manifest import Manifest, parse_manifest

MANIFEST = "plugin.yaml"


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

    Raises PluginError: bad manifest, missing extra, code that does not import (with file and line) or is not done with
    it in time, or an entry that is not what its kind promises. Nothing of a plugin that was refused stays loaded.
    """
    manifest = read_manifest(folder)
    package = package_of(folder, manifest.id)
    plugin = None
    try:
        entry = entry_in_time(package, manifest.entry, folder=folder, requires=manifest.requires)
        complaints = (
            driver_complaints(entry) if manifest.kind == "driver" else function_complaints(entry, manifest.functions)
        )
        if told := ", ".join(complaints):
            what = "driver" if manifest.kind == "driver" else "table of functions"
            raise PluginError(f"{folder}: {manifest.entry} is no {what}: {told}")
        plugin = Plugin(manifest, folder, entry, package)
    finally:
        if plugin is None:
            unload(package)
    return plugin


def unload_plugin(plugin: Plugin) -> None:
    """Forgets the modules of a plugin that nobody uses any more."""
    unload(plugin.package)


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


class Registry:
    """The plugins of one kind under some folders, each loaded when first asked for."""

    def __init__(self, roots: Iterable[Path], *, kind: Literal["driver", "function"]) -> None:
        self._roots = tuple(roots)
        self._kind = kind
        self._loaded: dict[str, Plugin] = {}
        self._endless: dict[str, tuple[_Sources, EndlessImport]] = {}

    def available(self) -> Mapping[str, Path]:
        """The folder of each plugin by id.

        One whose manifest is bad stands under its folder's name, so that whoever asks for it is told why; it costs no
        other plugin anything.
        """
        return {plugin_id: folders[0] for plugin_id, folders in self._found().items()}

    def load(self, plugin_id: str) -> Plugin:
        """The plugin with this id. Raises PluginError if there is none, if two claim it, or if it cannot be loaded.

        One whose import did not end is not imported again before its code has changed: each time would cost a thread.
        """
        if plugin_id not in self._loaded:
            folder = self._folder(plugin_id)
            sources, endless = self._endless.get(plugin_id, (None, None))
            if endless is not None and sources == _sources(folder):
                raise PluginError(str(endless))
            sources = _sources(folder)
            try:
                self._loaded[plugin_id] = load_plugin(folder)
            except EndlessImport as error:
                self._endless[plugin_id] = sources, error
                raise
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


_Sources = frozenset[tuple[Path, int]]
"""The files of a plugin's code, each with the nanosecond of its last change."""


def _sources(folder: Path) -> _Sources:
    found = set()
    for path in folder.rglob("*.py"):
        with suppress(OSError):  # it goes while it is looked at
            found.add((path, path.stat().st_mtime_ns))
    return frozenset(found)


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
