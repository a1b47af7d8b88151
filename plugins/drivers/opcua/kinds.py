"""Which built-in types of OPC UA a tag of which type can show. Pure tables."""

from collections.abc import Mapping
from typing import NamedTuple

from asyncua import ua

from contracts.v1.device import ValueType

_T = ua.VariantType
_INTEGERS = frozenset({_T.SByte, _T.Byte, _T.Int16, _T.UInt16, _T.Int32, _T.UInt32, _T.Int64, _T.UInt64, _T.StatusCode})
_FLOATS = frozenset({_T.Float, _T.Double})
_TEXTS = frozenset({_T.String, _T.LocalizedText, _T.DateTime, _T.Guid, _T.ByteString, _T.QualifiedName})
_NUMBERS = _INTEGERS | _FLOATS

TAG_TYPES: Mapping[ua.VariantType, ValueType] = {
    _T.Boolean: ValueType.BOOL,
    _T.SByte: ValueType.INT16,
    _T.Byte: ValueType.UINT16,
    _T.Int16: ValueType.INT16,
    _T.UInt16: ValueType.UINT16,
    _T.Int32: ValueType.INT32,
    _T.UInt32: ValueType.UINT32,
    _T.Int64: ValueType.INT64,
    _T.UInt64: ValueType.UINT64,
    _T.Float: ValueType.FLOAT32,
    _T.Double: ValueType.FLOAT64,
    _T.StatusCode: ValueType.UINT32,
    **dict.fromkeys(_TEXTS, ValueType.STRING),
}
"""The type of tag that shows a scalar of this built-in type; one that stands here not at all has no tag."""


class NodeKind(NamedTuple):
    """What a variable holds. array: None where it may be either."""

    type: ua.VariantType
    array: bool | None = False

    @classmethod
    def of(cls, kind: ua.VariantType | None, rank: object) -> "NodeKind | None":
        """From the built-in type and the value rank (OPC 10000-3, 5.6.2): -1 is a scalar, 0 and more an array."""
        if kind is None:
            return None
        scalar = rank is None or rank == ua.ValueRank.Scalar
        return cls(kind, False if scalar else True if isinstance(rank, int) and rank >= 0 else None)

    def __str__(self) -> str:
        return f"an array of {self.type.name}" if self.array else self.type.name

    def takes(self, value: object) -> bool:
        """Whether it is a list where the variable holds one, and none where it does not."""
        if self.array is None or self.type in {_T.ByteString, _T.Variant}:
            return True
        return isinstance(value, list) is self.array

    def misfit(self, tag: ValueType) -> str:
        """Why a tag of this type will never have a value of it; empty if it may."""
        if not shows(tag, self.type):
            never = tag_type(self.type, array=bool(self.array)) is None
            return obstacle(self.type, array=bool(self.array)) if never else f"{self}, not {tag}"
        wrong = self.type not in {_T.ByteString, _T.Variant} and self.array is not None
        return f"{self}, not {tag}" if wrong and self.array is not (tag is ValueType.ARRAY) else ""


def tag_type(kind: ua.VariantType, *, array: bool) -> ValueType | None:
    """The type of tag that shows such a variable; None if none does."""
    if not array:
        return TAG_TYPES.get(kind)
    return ValueType.ARRAY if kind in _NUMBERS else None


def shows(tag: ValueType, kind: ua.VariantType) -> bool:
    """Whether a tag of this type can show values of this built-in type, ranges apart."""
    if kind is _T.Variant:
        return True  # an abstract type: each value has its own
    if tag is ValueType.ARRAY:
        return kind in _NUMBERS or kind is _T.ByteString
    if tag is ValueType.BOOL:
        return kind is _T.Boolean
    if tag is ValueType.STRING:
        return kind in _TEXTS
    return kind in (_FLOATS if tag in {ValueType.FLOAT32, ValueType.FLOAT64} else _INTEGERS)


def obstacle(kind: ua.VariantType | None, *, array: bool = False) -> str:
    """Why no tag can show it."""
    if kind is None:
        return "the server does not tell its type"
    if kind is _T.ExtensionObject:
        return "a structure, which a tag cannot hold: name its members, if the server has variables of them"
    if array:
        return f"an array of {kind.name}: a tag holds arrays of numbers only"
    return f"of type {kind.name}, which no tag holds"
