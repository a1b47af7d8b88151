"""A device file: its text becomes what the gateway runs, or every fault in it, each with its place and its mend. Pure.

The host's fields are here; all others belong to the driver and are held against the driver's own models.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from contracts.codec import MAX_BYTES
from plugins.api.document import Document, DocumentError, Fault, Path
from plugins.api.driver import DeviceSpec, Driver, FunctionSpec, GroupSpec, NamesFunctions, Shares, TagSpec
from plugins.api.registry import Plugin, PluginError
from services.gateway.device import DeviceFile, Tag
from services.gateway.device_fields import (
    DeviceFields,
    FunctionFields,
    GroupFields,
    HostFields,
    TagFields,
    contradictions,
    level,
)
from services.gateway.write_fields import DEFAULT_SETTLE_S, condition_faults

__all__ = ["DeviceFile", "Drivers", "Tag", "parse_device", "revision"]

Content = dict[str, Any]


class Drivers(Protocol):
    """The driver plugins at hand; plugins.api.registry.Registry is one."""

    def available(self) -> Mapping[str, Any]:
        """Something by plugin id. Raises PluginError."""
        ...

    def load(self, plugin_id: str) -> Plugin:
        """Raises PluginError."""
        ...


def parse_device(text: str, *, source: str, drivers: Drivers) -> DeviceFile:
    """The device that the text describes. Raises DocumentError with all its faults, in the order of their lines."""
    return _Reader(Document.parse(text, source=source), drivers).device()


F = TypeVar("F", bound=HostFields)
T = TypeVar("T")

_BAD_TAG_BYTES = 64
"""What a tag takes beside its name, twice, in the frame that says that no tag of the group has a value."""
_FRAME_BYTES = MAX_BYTES - 1000
_BUGS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a bug in a driver's models and checks raises: it must not keep the other devices from running."""


class _Reader:
    """Reads one document, collecting faults as it goes."""

    def __init__(self, document: Document, drivers: Drivers) -> None:
        self._document = document
        self._drivers = drivers
        self._faults: list[Fault] = []
        self._tags: dict[str, Tag] = {}

    def device(self) -> DeviceFile:
        """The device that the file describes."""
        data = self._document.data
        if not isinstance(data, dict):
            self._fault((), "not a device", "write device, driver, connection and groups")
            raise DocumentError(self._faults)
        fields = self._validated(DeviceFields, data, ())
        plugin = self._plugin(data)
        driver = plugin.entry if plugin else None
        connection = self._connection(driver, data)
        functions = self._functions(plugin, data)
        groups = self._groups(driver, data)
        if fields is not None:
            places = {tag.name: ("groups", tag.group, "tags", tag.name) for tag in self._tags.values()}
            for fault in condition_faults(fields.remote, places, self._tags):
                self._fault(*fault)
        if fields is None or plugin is None or self._faults:
            raise DocumentError(self._faults)
        folder = _folder_around(self._document.source)
        spec = DeviceSpec(name=fields.device, groups=groups, connection=connection, functions=functions, folder=folder)
        self._complain(plugin.entry, spec)
        place = self._place(plugin.entry, spec)
        if self._faults:
            raise DocumentError(self._faults)
        return DeviceFile(
            source=self._document.source,
            line=self._document.line(("device",)),
            rev=revision(data),
            title=fields.title,
            gateway=fields.gateway,
            enabled=fields.enabled,
            writes=fields.writes == "enabled",
            plugin=plugin,
            spec=spec,
            tags=self._tags,
            place=place,
            remote=fields.remote,
        )

    def _plugin(self, data: Content) -> Plugin | None:
        name = data.get("driver")
        if not isinstance(name, str):
            return None  # DeviceFields has said so
        try:
            known = self._drivers.available()
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                there = ", ".join(name for name in known if not name.startswith("_")) or "none"
                self._fault(("driver",), f"no driver {name!r}", f"{hint}there are: {there}")
                return None
            return self._drivers.load(name)
        except PluginError as error:
            message, _, mend = str(error).partition("; ")
            self._fault(("driver",), message, mend or "mend the plugin, or name another driver")
            return None

    def _connection(self, driver: Driver | None, data: Content) -> BaseModel | None:
        given = data.get("connection", {})
        if driver is None or not isinstance(given, dict):
            return None
        return self._of_driver(driver.connection, given, ("connection",), beside=())

    def _functions(self, plugin: Plugin | None, data: Content) -> tuple[FunctionSpec, ...]:
        given = data.get("functions")
        if plugin is None or not given:
            return ()
        if not isinstance(plugin.entry, NamesFunctions):
            self._fault(
                ("functions",), f"the driver {plugin.manifest.id} takes no functions from a file", "remove them"
            )
            return ()
        found = []
        for name, fields in self._entries(given, ("functions",), "function"):
            path: Path = ("functions", name)
            if name in plugin.manifest.functions:
                self._fault(path, f"the driver {plugin.manifest.id} has a function of that name", "rename it")
            host, others = _split(fields, FunctionFields)
            own = self._validated(FunctionFields, host, path)
            source = self._of_driver(plugin.entry.function, others, path, beside=FunctionFields.model_fields)
            if own is not None and source is not None:
                found.append(FunctionSpec(name=name, ports=own.manifest(name), source=source))
        return tuple(found)

    def _groups(self, driver: Driver | None, data: Content) -> tuple[GroupSpec, ...]:
        given = data.get("groups")
        if given == {}:
            self._fault(("groups",), "is empty", "name at least one group with an interval and tags")
        groups = [self._group(driver, name, fields) for name, fields in self._entries(given, ("groups",), "group")]
        return tuple(group for group in groups if group is not None)

    def _group(self, driver: Driver | None, name: str, given: Content) -> GroupSpec | None:
        path: Path = ("groups", name)
        host, others = _split(given, GroupFields)
        fields = self._validated(GroupFields, host, path)
        options = self._of_driver(driver.group, others, path, beside=GroupFields.model_fields) if driver else None
        if given.get("tags") == {}:
            self._fault((*path, "tags"), "is empty", "name at least one tag with its type, or remove the group")
        tags = [
            self._tag(driver, name, tag, tag_fields)
            for tag, tag_fields in self._entries(given.get("tags"), (*path, "tags"), "tag")
        ]
        if fields is None:
            return None
        specs = tuple(tag for tag in tags if tag is not None)
        if sum(2 * len(tag.name) + _BAD_TAG_BYTES for tag in specs) > _FRAME_BYTES:
            mend = "split the group: its values travel in one frame of 1 MiB at most"
            self._fault((*path, "tags"), f"{len(specs)} tags with names so long are too many for one group", mend)
        return GroupSpec(name=name, interval_s=fields.interval, tags=specs, options=options)

    def _tag(self, driver: Driver | None, group: str, name: str, given: Content) -> TagSpec | None:
        path: Path = ("groups", group, "tags", name)
        host, others = _split(given, TagFields)
        fields = self._validated(TagFields, host, path)
        source = self._of_driver(driver.tag, others, path, beside=TagFields.model_fields) if driver else None
        if first := self._tags.get(name):
            line = self._document.line(("groups", first.group, "tags", name))
            self._fault(
                path,
                f"the name is taken by groups.{first.group}.tags.{name} on line {line}",
                "rename one: a tag's name is unique in its device, over all groups",
            )
        if fields is None:
            return None
        for field, message, mend in contradictions(fields):
            self._fault((*path, field), message, mend)
        self._tags.setdefault(name, _tag_of(name, group, fields))
        if driver is None or source is None:
            return None
        given_type = self._driver_says(lambda: driver.value_type(source))
        if given_type not in {None, fields.type}:
            self._fault((*path, "type"), f"is {fields.type}, but the driver gives {given_type}", f"write {given_type}")
        return TagSpec(name=name, type=fields.type, source=source, writable=fields.writable)

    def _entries(self, given: object, path: Path, kind: str) -> Iterator[tuple[str, Content]]:
        """The entries of a map of groups or tags whose name and fields are of the right kind."""
        for name, fields in given.items() if isinstance(given, dict) else ():
            here = (*path, str(name))
            if not isinstance(name, str):
                self._fault(here, f"the name is read as {type(name).__name__}", f'put quotes around it: "{name}"')
                continue
            try:
                level(name)
            except ValueError as error:
                message, _, mend = str(error).partition("; ")
                self._fault(here, message, mend)
                continue
            if isinstance(fields, dict):
                yield name, fields
            else:
                self._fault(here, f"has no fields, though a {kind} needs some", "write them below it as `name: value`")

    def _validated(self, model: type[F], given: Content, at: Path) -> F | None:
        try:
            return model.model_validate(given)
        except ValidationError as error:
            self._faults += self._document.faults_of(error, at=at, model=model)
            return None

    def _of_driver(
        self, model: type[BaseModel], given: Content, at: Path, *, beside: Iterable[str]
    ) -> BaseModel | None:
        try:
            return self._driver_says(lambda: model.model_validate(given))
        except ValidationError as error:
            self._faults += self._document.faults_of(error, at=at, model=model, beside=beside)
            return None

    def _complain(self, driver: Driver, spec: DeviceSpec) -> None:
        for complaint in self._driver_says(lambda: list(driver.check(spec))) or ():
            self._fault(complaint.path, complaint.message, complaint.mend)

    def _place(self, driver: Driver, spec: DeviceSpec) -> str:
        if self._faults or not isinstance(driver, Shares):
            return spec.name
        return self._driver_says(lambda: driver.place(spec)) or spec.name

    def _driver_says(self, ask: Callable[[], T]) -> T | None:
        """What the driver's code answers; None if it has a bug, which is then a fault. Raises ValidationError."""
        try:
            return ask()
        except ValidationError:
            raise
        except _BUGS as error:
            told = f"the driver stumbles over this file: {type(error).__name__}: {error}"
            fault = self._document.fault(("driver",), told, "this is a bug of the driver: report it, and show the file")
            if fault not in self._faults:  # it may stumble over every tag
                self._faults.append(fault)
            return None

    def _fault(self, path: Path, message: str, mend: str) -> None:
        self._faults.append(self._document.fault(path, message, mend))


def _folder_around(source: str) -> pathlib.Path:
    """Where relative paths of a device file begin: the site's folder, around `devices`; else the file's own."""
    folder = pathlib.Path(source).parent
    return folder.parent if folder.name == "devices" else folder


def revision(data: object) -> str:
    """Twelve hex digits that change with the content."""
    canonical = json.dumps(data, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _split(given: Content, host: type[HostFields]) -> tuple[Content, Content]:
    """The host's fields of a group or tag, and those that belong to the driver."""
    own = {key: value for key, value in given.items() if key in host.model_fields}
    return own, {key: value for key, value in given.items() if key not in own}


def _tag_of(name: str, group: str, fields: TagFields) -> Tag:
    return Tag(
        name=name,
        group=group,
        type=fields.type,
        title=fields.title,
        unit=fields.unit,
        range=fields.range,
        deadband=fields.deadband,
        min_interval_s=fields.min_interval,
        max_silence_s=fields.max_silence,
        writable=fields.writable,
        tolerance=fields.tolerance or 0.0,
        settle_s=DEFAULT_SETTLE_S if fields.settle is None else fields.settle,
        precondition=fields.precondition,
        fail_safe=fields.fail_safe,
    )
