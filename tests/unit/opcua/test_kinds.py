"""Which tags fit which variables, and what is told of those that do not."""

import pytest
from asyncua import ua

from contracts.v1.device import ValueType
from plugins.drivers.opcua.kinds import NodeKind, tag_type

T = ua.VariantType


@pytest.mark.parametrize(
    ("kind", "tag", "told"),
    [
        (NodeKind(T.Double), ValueType.FLOAT64, ""),
        (NodeKind(T.Double), ValueType.FLOAT32, ""),
        (NodeKind(T.Int32), ValueType.INT64, ""),
        (NodeKind(T.DateTime), ValueType.STRING, ""),
        (NodeKind(T.Double, array=True), ValueType.ARRAY, ""),
        (NodeKind(T.Double, array=None), ValueType.ARRAY, ""),
        (NodeKind(T.Double, array=None), ValueType.FLOAT64, ""),
        (NodeKind(T.ByteString), ValueType.ARRAY, ""),
        (NodeKind(T.Int32), ValueType.FLOAT64, "Int32, not float64"),
        (NodeKind(T.Double, array=True), ValueType.FLOAT64, "an array of Double, not float64"),
        (NodeKind(T.Double), ValueType.ARRAY, "Double, not array"),
        (NodeKind(T.String, array=True), ValueType.ARRAY, "an array of String: a tag holds arrays of numbers only"),
        (NodeKind(T.ExtensionObject), ValueType.STRING, "a structure, which a tag cannot hold"),
    ],
)
def test_a_misfit_is_told(kind: NodeKind, tag: ValueType, told: str) -> None:
    misfit = kind.misfit(tag)

    assert misfit.startswith(told)
    assert bool(misfit) is bool(told)


@pytest.mark.parametrize(("rank", "array"), [(-1, False), (1, True), (0, True), (2, True), (-2, None), (None, False)])
def test_the_rank_says_whether_it_is_an_array(rank: int | None, array: bool | None) -> None:
    assert NodeKind.of(T.Double, rank) == NodeKind(T.Double, array)


def test_the_type_of_tag_that_a_variable_asks_for_shows_it() -> None:
    for kind in T:
        for array in (False, True):
            shown = tag_type(kind, array=array)
            assert shown is None or NodeKind(kind, array).misfit(shown) == ""
