"""Values from and to the bytes of Modbus registers and bits. Pure.

A register travels high byte first (Modbus Application Protocol V1.1b3, 4.2). The four orders of larger values come
from two questions: are the bytes of each register swapped, and does the value read forwards or backwards after that.

    order   bytes on the wire   swapped in each register   then
    ABCD    A B  C D            no                         big endian
    DCBA    D C  B A            no                         little endian
    BADC    B A  D C            yes: A B  C D              big endian
    CDAB    C D  A B            yes: D C  B A              little endian

So all values of a block come out of at most four compiled structs over its bytes; only values that overlap or need
work of their own (bits, strings, scaled numbers) cost more. That is what lets 62 float32 decode in a few µs.
"""

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

from contracts.v1.device import ValueType
from contracts.v1.frame import BAD
from contracts.v1.frame_codec import QualityStruct
from plugins.api.driver import Value

from .config import Order, Tag

OUT_OF_RANGE = QualityStruct(BAD, "range")
"""Quality of a value that is no number: NaN, infinity, or bytes that are no text."""

_FORMATS: Mapping[ValueType, str] = {
    ValueType.INT16: "h",
    ValueType.UINT16: "H",
    ValueType.INT32: "i",
    ValueType.UINT32: "I",
    ValueType.INT64: "q",
    ValueType.UINT64: "Q",
    ValueType.FLOAT32: "f",
    ValueType.FLOAT64: "d",
    ValueType.BOOL: "H",
}
_FLOATS = frozenset({ValueType.FLOAT32, ValueType.FLOAT64})
_SWAPPED = frozenset({Order.BADC, Order.CDAB})
_BACKWARDS = frozenset({Order.DCBA, Order.CDAB})
_BITS_OF_BYTE = tuple(tuple(bool(byte >> bit & 1) for bit in range(8)) for byte in range(256))

Decode = Callable[[bytes, dict[str, Value], dict[str, QualityStruct]], None]
"""Puts the values found in a block's bytes into the dictionary of values, and what is not good into the other."""
_Finish = Callable[[tuple[Any, ...], dict[str, Value], dict[str, QualityStruct]], None]


class CodecError(ValueError):
    """A value that cannot stand in its registers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """How a value lies in registers.

    kind: type of what is in the registers. words: how many registers. bit: of a bool, 0 (lowest) to 15.
    scale, offset: value = raw x scale + offset, a float; scale None: the value is what is in the registers.
    """

    kind: ValueType
    words: int
    order: Order = Order.ABCD
    bit: int = 0
    scale: float | None = None
    offset: float = 0.0

    @property
    def format(self) -> str:
        """The field's letter in a struct."""
        return f"{2 * self.words}s" if self.kind is ValueType.STRING else _FORMATS[self.kind]

    @property
    def plain(self) -> bool:
        """Whether the struct's result is already the value."""
        return self.scale is None and self.kind not in {ValueType.BOOL, ValueType.STRING}


def register_field(kind: ValueType, tag: Tag) -> Field:
    """The field of a tag of this type in a table of registers, once plugins.drivers.modbus.check has passed it."""
    raw = tag.raw or kind
    words = tag.length or 1 if raw is ValueType.STRING else struct.calcsize(f">{_FORMATS[raw]}") // 2
    return Field(
        kind=raw,
        words=words,
        order=tag.order.order,
        bit=tag.bit or 0,
        scale=(1.0 if tag.scale is None else tag.scale) if tag.scaled else None,
        offset=tag.offset or 0.0,
    )


def register_decoder(fields: Iterable[tuple[str, int, Field]]) -> Decode:
    """Compiles the decoding of a block of registers.

    fields: name, first register counted from the block's, and field; in order of the registers they take fewest passes.
    """
    passes = _passes(fields)
    swapping = any(one.swapped for one in passes)

    def decode(data: bytes, values: dict[str, Value], quality: dict[str, QualityStruct]) -> None:
        """See Decode. data: two bytes a register, as they came; struct.error if they end before the last field."""
        swapped = _swap(data) if swapping else data
        for one in passes:
            found = one.unpack(swapped if one.swapped else data)
            if one.finish is None:
                values.update(zip(one.names, found, strict=True))
                # A sum that is finite had no NaN and no infinity in it; one addition each is the cheapest test.
                if one.floating and not math.isfinite(sum(found)):
                    _refuse_infinite(one.names, values, quality)
            else:
                one.finish(found, values, quality)

    return decode


def bit_decoder(places: Sequence[tuple[str, int]]) -> Decode:
    """As register_decoder: coils or discrete inputs. places: name, bit from the first byte's lowest (V1.1b3, 6.1)."""
    names = tuple(name for name, _ in places)
    # itemgetter of one index gives no tuple: asked twice for it, zip stops at the one name.
    pick = itemgetter(*(place for _, place in places), places[-1][1])

    def decode(data: bytes, values: dict[str, Value], _quality: dict[str, QualityStruct]) -> None:
        """See Decode; a bit is always good. data: eight bits a byte; IndexError if it ends before the last place."""
        bits = list(chain.from_iterable(map(_BITS_OF_BYTE.__getitem__, data)))
        values.update(zip(names, pick(bits), strict=False))

    return decode


def encode(field: Field, value: Value) -> bytes:
    """The registers' bytes for the value; of a bool in a register the one bit set or all clear.

    Raises CodecError where the value is of another type, out of the registers' range, or a text that does not fit.
    """
    endian = "<" if field.order in _BACKWARDS else ">"
    try:
        data = struct.pack(f"{endian}{field.format}", _raw_of(field, value))
    except (struct.error, OverflowError, UnicodeEncodeError):
        raise CodecError(f"{value!r} does not fit into {field.kind}") from None
    return _swap(data) if field.order in _SWAPPED else data


def _raw_of(field: Field, value: Value) -> int | float | bytes:
    if field.kind is ValueType.STRING:
        return _text_bytes(field, value)
    if field.kind is ValueType.BOOL:
        if not isinstance(value, bool):
            raise CodecError(f"{value!r} is no bool")
        return value << field.bit
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CodecError(f"{value!r} is no number")
    if not math.isfinite(value):
        raise CodecError(f"{value!r} is no finite number")
    if field.scale is None:
        return value
    raw = (value - field.offset) / field.scale
    if not math.isfinite(raw):
        raise CodecError(f"{value!r} does not fit into {field.kind}")
    return raw if field.kind in _FLOATS else round(raw)


def _text_bytes(field: Field, value: Value) -> bytes:
    if not isinstance(value, str):
        raise CodecError(f"{value!r} is no text")
    data = value.encode()
    if b"\0" in data:
        raise CodecError("a text in registers ends at its first NUL, so it can hold none")
    if len(data) > 2 * field.words:
        raise CodecError(f"a text of {len(data)} bytes does not fit into {field.words} registers of 2 bytes")
    return data


@dataclass(frozen=True, slots=True)
class _Slot:
    """A stretch of a block's bytes that is unpacked once, for one field or for several bits of one register."""

    start: int
    format: str
    uses: tuple[tuple[str, Field], ...]

    @property
    def end(self) -> int:
        """The byte behind its last."""
        return self.start + struct.calcsize(f">{self.format}")


@dataclass(frozen=True, slots=True)
class _Pass:
    """One struct over a block. finish: for fields that are not plain, what puts their values into the dictionaries."""

    swapped: bool
    unpack: Callable[[bytes], tuple[Any, ...]]
    names: tuple[str, ...]
    floating: bool
    finish: _Finish | None


def _passes(fields: Iterable[tuple[str, int, Field]]) -> tuple[_Pass, ...]:
    kinds: dict[tuple[bool, bool, bool], list[tuple[str, int, Field]]] = {}
    for item in fields:
        field = item[2]
        kind = (field.order in _SWAPPED, field.order in _BACKWARDS, field.plain)
        kinds.setdefault(kind, []).append(item)
    return tuple(
        _pass(layer, swapped=swapped, backwards=backwards, plain=plain)
        for (swapped, backwards, plain), members in kinds.items()
        for layer in _layers(_slots(members, shared=not plain))
    )


def _slots(fields: Iterable[tuple[str, int, Field]], *, shared: bool) -> Iterable[_Slot]:
    if not shared:
        return [_Slot(2 * word, field.format, ((name, field),)) for name, word, field in fields]
    uses: dict[tuple[int, str], list[tuple[str, Field]]] = {}
    for name, word, field in fields:
        uses.setdefault((2 * word, field.format), []).append((name, field))
    return [_Slot(start, letters, tuple(users)) for (start, letters), users in uses.items()]


def _layers(slots: Iterable[_Slot]) -> list[list[_Slot]]:
    """The slots dealt out to layers without overlap: the fewest, if they come in order of their start."""
    layers: list[list[_Slot]] = []
    for slot in slots:
        free = next((layer for layer in layers if layer[-1].end <= slot.start), None)
        if free is None:
            layers.append([slot])
        else:
            free.append(slot)
    return layers


def _pass(slots: Sequence[_Slot], *, swapped: bool, backwards: bool, plain: bool) -> _Pass:
    letters, end = ["<" if backwards else ">"], 0
    for slot in slots:
        letters.append(f"{slot.start - end}x{slot.format}")
        end = slot.end
    names = tuple(name for slot in slots for name, _ in slot.uses)
    floating = any(field.kind in _FLOATS for slot in slots for _, field in slot.uses)
    finish = None if plain else _finisher(slots)
    return _Pass(swapped, struct.Struct("".join(letters)).unpack_from, names, floating, finish)


def _finisher(slots: Sequence[_Slot]) -> _Finish:
    steps = [(index, name, _conversion(field)) for index, slot in enumerate(slots) for name, field in slot.uses]

    def finish(found: tuple[Any, ...], values: dict[str, Value], quality: dict[str, QualityStruct]) -> None:
        """found: what the struct gave, one for each slot; what is no value becomes None with OUT_OF_RANGE."""
        for index, name, convert in steps:
            value = values[name] = convert(found[index])
            if value is None:
                quality[name] = OUT_OF_RANGE

    return finish


def _conversion(field: Field) -> Callable[[Any], Value]:
    """From the struct's result to the value, or None if there is no value in it."""
    if field.kind is ValueType.STRING:
        return _text
    if field.kind is ValueType.BOOL:
        mask = 1 << field.bit
        return lambda register: bool(register & mask)
    scale, offset = field.scale or 1.0, field.offset

    def scaled(raw: float) -> Value:
        """In the tag's unit; None where it is beyond a float64."""
        value = raw * scale + offset
        return value if math.isfinite(value) else None

    return scaled


def _text(data: bytes) -> str | None:
    try:
        return data.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        return None


def _refuse_infinite(names: Iterable[str], values: dict[str, Value], quality: dict[str, QualityStruct]) -> None:
    for name in names:
        value = values[name]
        if isinstance(value, float) and not math.isfinite(value):
            values[name] = None
            quality[name] = OUT_OF_RANGE


def _swap(data: bytes) -> bytes:
    """The bytes of each register in the other order."""
    swapped = bytearray(len(data))
    swapped[::2], swapped[1::2] = data[1::2], data[::2]
    return bytes(swapped)
