"""The driver of an instrument that speaks lines: READ level -> 12.5, WRITE level 3 -> OK, and ERROR if it cannot."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pydantic import BaseModel

from contracts.v1.device import ValueType
from contracts.v1.frame import BAD
from contracts.v1.frame_codec import QualityStruct
from plugins.api.clock import Clock
from plugins.api.driver import Complaint, Device, DeviceError, DeviceSpec, Reading, Value

from .config import Connection, Group, Tag

STATES = {"OFF": False, "ON": True}
PARSERS: Mapping[ValueType, Callable[[str], Value]] = {
    ValueType.FLOAT64: float,
    ValueType.BOOL: STATES.__getitem__,
    ValueType.STRING: str,
}


def parse(answer: str, kind: ValueType) -> tuple[Value, QualityStruct | None]:
    """The value of the declared type and its quality (None: good). The value is None whenever the quality is bad."""
    if answer.startswith("ERROR"):
        return None, QualityStruct(BAD, "device")
    try:
        value = PARSERS[kind](answer)
    except (ValueError, KeyError):
        return None, QualityStruct(BAD, "config")
    if isinstance(value, float) and not math.isfinite(value):
        return None, QualityStruct(BAD, "range")
    return value, None


def spell(value: Value) -> str:
    """The value as the instrument reads it. Raises DeviceError for a text of more than one line."""
    text = ("ON" if value else "OFF") if isinstance(value, bool) else str(value)
    if text.splitlines() != [text]:
        raise DeviceError(f"{text!r} is not one line", cause="range")
    return text


class LineDevice:
    """An open instrument. See plugins.api.driver.Device and Revises."""

    def __init__(
        self, *, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spec: DeviceSpec, clock: Clock
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout_s: float = spec.connection.timeout
        self._clock = clock
        self._follow(spec)

    async def revise(self, device: DeviceSpec) -> None:
        """Asks for the tags of this spec from now on, on the same connection."""
        self._follow(device)

    def _follow(self, spec: DeviceSpec) -> None:
        self._groups = {group.name: group.tags for group in spec.groups}
        self._quantities: dict[str, str] = {
            tag.name: tag.source.quantity for group in spec.groups for tag in group.tags
        }

    async def read(self, group: str) -> Reading:
        """Asks for each tag of the group. Raises DeviceError if one question gets no answer."""
        values: dict[str, Value] = {}
        quality: dict[str, QualityStruct] = {}
        for tag in self._groups[group]:
            values[tag.name], fault = parse(await self._ask(f"READ {self._quantities[tag.name]}"), tag.type)
            if fault is not None:
                quality[tag.name] = fault
        return Reading(self._clock.now_us(), values, quality)

    async def write(self, tag: str, value: Value) -> None:
        """Writes the tag once. Raises DeviceError if the instrument refuses (cause `device`) or does not answer."""
        answer = await self._ask(f"WRITE {self._quantities[tag]} {spell(value)}")
        if answer != "OK":
            raise DeviceError(f"{tag}: {answer}", cause="device")

    async def _ask(self, question: str) -> str:
        answered = False
        try:
            async with asyncio.timeout(self._timeout_s):
                self._writer.write(f"{question}\n".encode())
                await self._writer.drain()
                line = await self._reader.readuntil(b"\n")
            answered = True
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise DeviceError(f"{question}: {str(error) or 'no answer in time'}") from error
        finally:
            if not answered:
                # Also when cancelled: an answer that comes late would be taken for that to the next question.
                self._writer.transport.abort()
        return line.decode(errors="replace").strip()


class LineDriver:
    """The plugin's entry. See plugins.api.driver.Driver."""

    connection: type[BaseModel] = Connection
    group: type[BaseModel] = Group
    tag: type[BaseModel] = Tag

    def value_type(self, tag: BaseModel) -> ValueType | None:
        """The instrument does not tell: the device file's `type` does."""
        return None

    def check(self, device: DeviceSpec) -> Sequence[Complaint]:
        """A type that the instrument has no word for is refused before anything connects."""
        return [
            Complaint(
                ("groups", group.name, "tags", tag.name, "type"),
                f"the instrument has no {tag.type}",
                f"write one of {', '.join(PARSERS)}",
            )
            for group in device.groups
            for tag in group.tags
            if tag.type not in PARSERS
        ]

    def open(self, device: DeviceSpec, *, clock: Clock) -> AbstractAsyncContextManager[Device]:
        """Connects on entry (DeviceError) and closes on exit."""
        return _opened(device, clock)


DRIVER = LineDriver()


@asynccontextmanager
async def _opened(device: DeviceSpec, clock: Clock) -> AsyncIterator[Device]:
    connection: Connection = device.connection
    try:
        async with asyncio.timeout(connection.timeout):
            reader, writer = await asyncio.open_connection(connection.host, connection.port)
    except OSError as error:
        raise DeviceError(f"{connection.host}:{connection.port}: {str(error) or 'no answer in time'}") from error
    try:
        yield LineDevice(reader=reader, writer=writer, spec=device, clock=clock)
    finally:
        writer.close()
