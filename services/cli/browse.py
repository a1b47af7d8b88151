"""`dinrail browse`: what a device offers, to read and as a device file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from plugins.api.document import DocumentError
from plugins.api.driver import Browses, DeviceError, DeviceSpec, Driver, Offer
from plugins.api.registry import Registry
from services.cli.counted import counted
from services.cli.offered import device_text
from services.gateway.device_file import parse_device
from services.gateway.settings import SHIPPED_DRIVERS
from services.gateway.whole_file import write_whole
from services.runtime.clock import SystemClock

DRIVER = "opcua"
_KEY = re.compile(r"\b(password_file|user_certificate|user_key|clear_password|user(?=: [A-Z]))(: (?=[A-Z]))?")
"""A key of a device file in the driver's words, with the colon before its value, as in `user: NAME`."""


class BrowseFailed(Exception):
    """It cannot be browsed; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Browsed:
    """What was found. cut: there is more than was asked for. depth: how far down was looked."""

    offers: list[Offer]
    cut: bool
    depth: int

    @property
    def summary(self) -> str:
        """How much there is: 120 variables, 3 methods; 2 cannot be tags."""
        kinds = [offer.kind for offer in self.offers]
        barred = sum(1 for offer in self.offers if offer.obstacle)
        told = ", ".join(counted(kinds.count(kind), kind) for kind in ("variable", "method", "folder"))
        told += f"; {barred} cannot be in a device file" if barred else ""
        closed = sum(1 for offer in self.offers if len(offer.path) == self.depth and _may_hold_more(offer))
        return told + (f"; {closed} at level {self.depth} may hold more: raise --depth" if closed else "")


def _may_hold_more(offer: Offer) -> bool:
    """A folder, or a structure, whose members a server may offer below it."""
    return offer.kind == "folder" or (offer.kind == "variable" and bool(offer.obstacle))


def connection_fields(**given: object) -> dict[str, Any]:
    """The `connection` of the device file: what was given, without the rest."""
    fields = {key: _written(value) for key, value in given.items()}
    return {key: value for key, value in fields.items() if value}


def _written(value: object) -> object:
    if isinstance(value, Mapping):
        return connection_fields(**value)
    return str(value) if isinstance(value, Path) else value


def _told(path: Sequence[str | int], message: str) -> str:
    """A fault in the connection, which the driver tells in words of a device file, in those of the command line."""
    field = next(part for part in reversed(path) if isinstance(part, str))
    text = _KEY.sub(lambda key: _option(key[1]) + (" " if key[2] else ""), message)
    return f"{field if field == 'url' else _option(field)}: {text}"


def _option(field: str) -> str:
    return "--" + field.replace("_", "-")


async def browse(
    connection: Mapping[str, Any], *, folder: Path, at: str | None, depth: int, most: int, progress: Console
) -> Browsed:
    """Looks at what lies below the address, so deep and so much at the most. Raises BrowseFailed.

    folder: the site's, where relative paths begin. progress: where to say how far it is.
    """
    driver: Driver = Registry([SHIPPED_DRIVERS], kind="driver").load(DRIVER).entry
    try:
        fields = driver.connection.model_validate(dict(connection))
    except ValidationError as error:
        told = [_told(one["loc"], one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        raise BrowseFailed("\n".join(told)) from None
    spec = DeviceSpec(name="browse", groups=(), connection=fields, folder=folder)
    faults = driver.check(spec)
    if faults:
        raise BrowseFailed("\n".join(_told(fault.path, f"{fault.message}; {fault.mend}") for fault in faults))
    offers: list[Offer] = []
    try:
        async with driver.open(spec, clock=SystemClock()) as device:
            assert isinstance(device, Browses)
            with progress.status("browsing ...") as status:
                async for offer in device.browse(at, depth=depth):
                    if len(offers) == most:
                        return Browsed(offers, cut=True, depth=depth)
                    offers.append(offer)
                    if len(offers) % 100 == 0:
                        status.update(f"browsing: {len(offers)} nodes ...")
    except DeviceError as error:
        raise BrowseFailed(str(error)) from None
    return Browsed(offers, cut=False, depth=depth)


def write_device(
    path: Path, browsed: Browsed, *, device: str | None, connection: Mapping[str, Any], interval: str, force: bool
) -> str:
    """Writes the device file, checked as the gateway would; returns what is in it. Raises BrowseFailed."""
    if path.exists() and not force:
        raise BrowseFailed(f"{path} is there; name another file, or write --force")
    text = device_text(
        device=device or re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_") or "device",
        driver=DRIVER,
        connection=connection,
        offers=browsed.offers,
        interval=interval,
        origin=f"By `dinrail browse {connection['url']}`: {browsed.summary}.",
    )
    if not any(offer.kind == "variable" and not offer.obstacle for offer in browsed.offers):
        raise BrowseFailed("there is no variable for a tag: look deeper (--depth), or elsewhere (--node)")
    try:
        made = parse_device(text, source=str(path), drivers=Registry([SHIPPED_DRIVERS], kind="driver"))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)  # a running gateway may look at it at any moment
    except DocumentError as error:
        raise BrowseFailed(str(error)) from None
    except OSError as error:
        raise BrowseFailed(f"{path}: {error.strerror}") from None
    tags, functions = counted(len(made.tags), "tag"), counted(len(made.spec.functions), "function")
    return f"{path}: device {made.name} with {tags} and {functions}"
