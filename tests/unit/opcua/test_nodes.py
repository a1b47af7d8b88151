"""Node ids of tags, found by the URI of their namespace."""

from collections.abc import Sequence

import pytest

from plugins.api.driver import DeviceError
from plugins.drivers.opcua.config import parse_node
from plugins.drivers.opcua.limits import CHUNK, Limits, chunks
from plugins.drivers.opcua.nodes import AddressBook

ADDRESSES = {"here": parse_node("nsu=urn:plc;s=a"), "there": parse_node("nsu=urn:late;i=7")}


def book(namespaces: list[str]) -> AddressBook:
    async def read() -> Sequence[str]:
        return namespaces

    return AddressBook(ADDRESSES, url="plc", namespaces=list(namespaces), read_namespaces=read)


async def test_a_namespace_that_comes_later_is_found_then_and_keeps_no_other_away() -> None:
    namespaces = ["", "urn:plc"]
    made = book(namespaces)
    before = (made["here"].NamespaceIndex, made["there"].NamespaceIndex, set(made.missing))

    namespaces.append("urn:late")
    await made.look_again()

    assert before == (1, 65535, {"there"})
    assert (made["there"].NamespaceIndex, made["there"].Identifier) == (2, 7)
    assert not made.missing


def test_a_server_with_none_of_the_namespaces_is_an_error_that_names_those_it_has() -> None:
    with pytest.raises(DeviceError, match="no namespace 'urn:plc'; it has: , urn:other") as refused:
        book(["", "urn:other"])

    assert refused.value.cause == "config"


@pytest.mark.parametrize(
    ("told", "limits"),
    [
        ([0, 0, 0], Limits()),
        ([20, 7, 5], Limits(20, 7, 5)),
        ([None, 10, None], Limits(CHUNK, 10, CHUNK)),
        ([100_000, "many", 1], Limits(CHUNK, CHUNK, 1)),
    ],
)
def test_the_limits_are_the_servers_own_where_they_are_below_ours(told: list[object], limits: Limits) -> None:
    assert Limits.of(told) == limits


def test_chunks_leave_nothing_out() -> None:
    assert [list(part) for part in chunks(range(5), 2)] == [[0, 1], [2, 3], [4]]
