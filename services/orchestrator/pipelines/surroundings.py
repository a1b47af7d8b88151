"""What other services say of themselves: the devices and compute functions that a pipeline may name."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from pydantic import BaseModel

from contracts.codec import ContractError, decode
from contracts.v1.definition import Definition
from contracts.v1.device import DEVICE, DeviceInfo
from plugins.api.document import DocumentError
from services.orchestrator.definition.catalogue import OTHER_DEVICE, Catalogue
from services.orchestrator.functions.functions import Functions
from services.orchestrator.hub import Hub
from services.orchestrator.pipelines.definitions import Definitions
from services.orchestrator.pipelines.derived_tags import DerivedTags
from services.orchestrator.pipelines.repository import Repository
from services.orchestrator.pipelines.version import Name, Version
from services.runtime.bus.bus import Delivery
from services.runtime.logs import Log

P = TypeVar("P", bound=BaseModel)

_MOST_WAITING = 10_000


class Surroundings:
    """Follows the retained topics of devices, and knows the pipelines beside them.

    changed: set at each change; whoever waits for it clears it.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        repository: Repository,
        definitions: Definitions,
        derived: DerivedTags,
        functions: Functions,
        log: Log,
    ) -> None:
        self.changed = asyncio.Event()
        self._repository = repository
        self._read = definitions
        self._derived = derived
        self._functions = functions
        self._log = log
        self._devices: dict[str, DeviceInfo] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._definitions: dict[Name, tuple[int, Definition | None]] = {}
        # The clearing of a topic says that a device is gone.
        hub.subscribe(DEVICE, self._take_device, queue_size=_MOST_WAITING)
        functions.on_change(self.changed.set)

    def catalogue(self, scope: str) -> Catalogue:
        """What a definition of this workspace may name now."""
        return Catalogue.of(
            self._devices.values(),
            self._functions.plugins(),
            self._pipelines(scope),
            scope=scope,
            elsewhere=self._derived.elsewhere(scope),
        )

    def foreign(self, tag: str, pipeline: Name) -> str | None:
        """Why the pipeline may not derive `device/tag`, and the mend; None if it may."""
        device = tag.partition("/")[0]
        if device in self._devices:
            return (
                f"{tag} is not published: {device!r} is a device of a gateway by now, which alone publishes its tags; "
                f"in the pipeline {OTHER_DEVICE}"
            )
        owner = self._derived.owner(tag)
        if owner is None or owner == pipeline:
            return None
        other = f"the pipeline {owner[1]!r}" if owner[0] == pipeline[0] else "a pipeline of another workspace"
        return f"{tag} is not published: {other} derives it; name another tag"

    def on_device(self, listener: Callable[[str], None]) -> None:
        """`listener` is called with the name of each device of a gateway as it comes."""
        self._listeners.append(listener)

    def _pipelines(self, scope: str) -> Iterable[Definition]:
        for version in self._repository.all(scope):
            definition = self.definition(version)
            if definition is not None:
                yield definition

    def definition(self, version: Version) -> Definition | None:
        """The definition of a live version, read once; None if this release cannot read it."""
        number, definition = self._definitions.get(version.name, (0, None))
        if number != version.version:
            definition = None
            with suppress(DocumentError):
                definition = self._read.of(version.text or "")
            self._definitions[version.name] = (version.version, definition)
        return definition

    async def _take_device(self, delivery: Delivery[bytes]) -> None:
        device = delivery.levels["device"]
        info = self._decoded(DeviceInfo, delivery)
        if info is None:
            self._devices.pop(device, None)
        else:
            self._devices[device] = info
            for listener in self._listeners:
                listener(device)
        self.changed.set()

    def _decoded(self, model: type[P], delivery: Delivery[bytes]) -> P | None:
        if not delivery.payload:
            return None
        try:
            return decode(model, delivery.payload, topic=delivery.topic)
        except ContractError as error:
            self._log.warning("surroundings_unreadable", error=str(error))
            return None
