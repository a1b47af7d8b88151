"""Finds plugins by folder and loads their code.

Every load gets a package name of its own, so that a changed plugin can be loaded beside the one that still runs.
"""

import importlib.util
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from plugins.api.document import DocumentError, Fault
from plugins.api.manifest import Manifest, parse_manifest

MANIFEST = "plugin.yaml"
_loads = itertools.count(1)


class PluginError(Exception):
    """A plugin cannot be loaded; the message names the folder and the reason."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A loaded plugin: what it says of itself, where it lies, and its entry object (see plugins.api.driver)."""

    manifest: Manifest
    folder: Path
    entry: Any


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
    """Imports the plugin's entry. Raises PluginError: bad manifest, missing extra, or code that does not import."""
    manifest = read_manifest(folder)
    module_name, _, attribute = manifest.entry.partition(":")
    package = _package(folder, f"dinrail_plugin_{manifest.id.replace('-', '_')}_{next(_loads)}")
    try:
        module = importlib.import_module(f"{package.__name__}.{module_name}")
        entry = getattr(module, attribute)
    except ModuleNotFoundError as error:
        hint = f"; install dinrail[{','.join(manifest.requires)}]" if manifest.requires else ""
        raise PluginError(f"{folder}: module {error.name!r} is missing{hint}") from error
    except (ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError) as error:
        raise PluginError(f"{folder}: {manifest.entry} cannot be loaded: {error}") from error
    return Plugin(manifest, folder, entry)


class Registry:
    """The plugins of one kind under some folders, each loaded when first asked for."""

    def __init__(self, roots: Iterable[Path], *, kind: Literal["driver", "function"]) -> None:
        self._roots = tuple(roots)
        self._kind = kind
        self._loaded: dict[str, Plugin] = {}

    def available(self) -> Mapping[str, Path]:
        """The folder of each plugin by id. Raises PluginError when two folders claim one id or a manifest is bad."""
        found: dict[str, Path] = {}
        for folder in plugin_folders(self._roots):
            manifest = read_manifest(folder)
            if manifest.kind != self._kind:
                continue
            if manifest.id in found:
                raise PluginError(f"{folder}: id {manifest.id!r} is taken by {found[manifest.id]}; rename one")
            found[manifest.id] = folder
        return found

    def load(self, plugin_id: str) -> Plugin:
        """The plugin with this id. Raises PluginError if there is none or it cannot be loaded."""
        if plugin_id not in self._loaded:
            folders = self.available()
            if plugin_id not in folders:
                raise PluginError(f"no {self._kind} {plugin_id!r}; there are: {', '.join(folders) or 'none'}")
            self._loaded[plugin_id] = load_plugin(folders[plugin_id])
        return self._loaded[plugin_id]

    def loaded(self) -> tuple[Plugin, ...]:
        """The plugins loaded so far."""
        return tuple(self._loaded.values())


def _package(folder: Path, name: str) -> ModuleType:
    """An empty package over the folder, so that its modules may import one another relatively."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    return package


__all__ = ["Fault", "Plugin", "PluginError", "Registry", "load_plugin", "plugin_folders", "read_manifest"]
