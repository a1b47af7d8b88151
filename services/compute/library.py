"""The functions that a service has: which versions of which plugins, each as a copy of its own.

Workers load copies: a worker that is replaced gets the version that runs, whatever its folder holds by now.
"""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from contracts.v1.function import FunctionInfo
from contracts.v1.plugin import PluginInfo
from plugins.api.manifest import FunctionManifest, Manifest
from plugins.api.registry import MANIFEST, PluginError, plugin_folders, read_manifest
from services.compute.job import Ports, Source, ports

WATCHED = ("*.py", "*.yaml")
HIDDEN = "_"
"""The id of a plugin that is there to be copied begins so; it is not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A plugin as it was copied. folder: where it lies; copy: what workers load. build: of this copy alone."""

    manifest: Manifest
    folder: Path
    copy: Path
    build: str

    @property
    def source(self) -> Source:
        """What a worker is told to load."""
        functions = {
            name: Ports(ports(one.inputs), ports(one.outputs)) for name, one in self.manifest.functions.items()
        }
        memory_mb = max((one.memory_mb or 0 for one in self.manifest.functions.values()), default=0)
        return Source(self.manifest.id, str(self.copy), self.manifest.entry, functions, memory_mb)

    def told(self, error: str) -> str:
        """The error with the places in the folder, where its author finds them."""
        return error.replace(str(self.copy), str(self.folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that can be computed."""

    name: str
    version: Version

    @property
    def promised(self) -> FunctionManifest:
        """Its ports and limits."""
        return self.version.manifest.functions[self.name]


@dataclass(frozen=True, slots=True)
class Library:
    """The versions in use by the plugin's id, and their functions by name. Immutable: a change gives another."""

    versions: Mapping[str, Version] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)

    def with_version(self, version: Version) -> "Library":
        """The library with this version in the place of the one before.

        Raises PluginError if another plugin has one of its functions.
        """
        for name in version.manifest.functions:
            other = self.functions.get(name)
            if other is not None and other.version.manifest.id != version.manifest.id:
                raise PluginError(
                    f"{version.folder}: the function {name!r} is taken by {other.version.folder}; rename one"
                )
        return _library({**self.versions, version.manifest.id: version})

    def without(self, plugin_id: str) -> "Library":
        """The library without this plugin."""
        return _library({one: version for one, version in self.versions.items() if one != plugin_id})

    @property
    def sources(self) -> tuple[Source, ...]:
        """What a worker is told to load."""
        return tuple(version.source for version in self.versions.values())


def _library(versions: Mapping[str, Version]) -> Library:
    return Library(
        versions,
        {
            name: Function(name=name, version=version)
            for version in versions.values()
            for name in version.manifest.functions
        },
    )


class Copies:
    """Copies plugins into a folder of ours. Raises OSError where that cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def copied(self, folder: Path) -> Version:
        """The plugin as its folder is now. Raises PluginError, OSError."""
        number = next(self._numbers)
        copy = self._folder / f"{number}"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            manifest = read_manifest(copy)
        except PluginError as error:
            shutil.rmtree(copy)
            raise PluginError(str(error).replace(str(copy), str(folder))) from None
        return Version(manifest=manifest, folder=folder, copy=copy, build=f"{_digest(copy)}-{number}")

    def drop(self, version: Version) -> None:
        """Nobody loads this copy any more."""
        shutil.rmtree(version.copy, ignore_errors=True)


def found_folders(roots: Iterable[Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """The folder of each plugin of functions by its id, and what keeps others from being one, by the folder's name."""
    folders: dict[str, Path] = {}
    faults: dict[str, str] = {}
    for folder in plugin_folders(roots):
        try:
            manifest = read_manifest(folder)
        except PluginError as error:
            faults[folder.name] = str(error)
            continue
        if manifest.kind != "function" or manifest.id.startswith(HIDDEN):
            continue
        if manifest.id in folders:
            faults[folder.name] = f"{folder}: id {manifest.id!r} is taken by {folders[manifest.id]}; rename one"
        else:
            folders[manifest.id] = folder
    return folders, faults


def plugin_info(version: Version, *, instance: str, since_ms: int, error: str | None) -> PluginInfo:
    """The plugin as this instance has loaded it. since_ms: milliseconds since 1970 UTC."""
    manifest = version.manifest
    return PluginInfo(
        id=manifest.id,
        kind="function",
        version=manifest.version,
        title=manifest.title,
        instance=instance,
        since=since_ms,
        error=error,
        functions={
            name: FunctionInfo(
                title=one.title,
                inputs=dict(one.inputs),
                outputs=dict(one.outputs),
                timeout_s=one.timeout_s,
                pure=one.pure,
            )
            for name, one in manifest.functions.items()
        },
    )


def sources_of(folder: Path) -> Iterable[Path]:
    """What a version of a plugin consists of."""
    yield folder / MANIFEST
    yield from (path for pattern in WATCHED for path in folder.rglob(pattern) if path.name != MANIFEST)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
