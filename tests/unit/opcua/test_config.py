"""Node ids and addresses of servers, as a device file spells them."""

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from plugins.drivers.opcua.config import STANDARD_NAMESPACE, Connection, Group, NodeAddress, Tag, parse_node

# A busy machine may take its time for one example.
UNHURRIED = settings(deadline=None)

URIS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1).filter(
    lambda uri: uri != STANDARD_NAMESPACE
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NUMBERS = st.integers(0, 2**32 - 1).map(str)
ADDRESSES = st.one_of(
    st.builds(NodeAddress, URIS, st.just("s"), NAMES),
    st.builds(NodeAddress, URIS, st.just("g"), st.uuids().map(str)),
    st.builds(NodeAddress, URIS, st.just("b"), st.binary(min_size=1).map(lambda raw: b64encode(raw).decode())),
    st.builds(NodeAddress, URIS | st.just(STANDARD_NAMESPACE), st.just("i"), NUMBERS),
)


@UNHURRIED
@given(ADDRESSES)
def test_an_address_is_read_as_it_is_spelt(address: NodeAddress) -> None:
    assert parse_node(str(address)) == address


@UNHURRIED
@given(ADDRESSES)
def test_an_address_that_has_been_read_stays_as_it_is(address: NodeAddress) -> None:
    assert parse_node(address) is address


@UNHURRIED
@given(st.text() | st.integers() | st.none() | st.floats())
def test_whatever_stands_there_is_an_address_or_refused_with_a_mend(content: object) -> None:
    told, address = "", None
    try:
        address = parse_node(content)
    except ValueError as error:
        told = str(error)

    assert "; write " in told or parse_node(str(address)) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nsu=urn:plant;s=Filler.Speed", NodeAddress("urn:plant", "s", "Filler.Speed")),
        ("nsu=urn:plant;s=a;s=b=c", NodeAddress("urn:plant", "s", "a;s=b=c")),
        ("nsu=urn:plant;i=7", NodeAddress("urn:plant", "i", "7")),
        ("nsu=urn:a%3Bb%25;s=x", NodeAddress("urn:a;b%", "s", "x")),
        ("nsu=urn:a%20b;s=x ", NodeAddress("urn:a%20b", "s", "x ")),
        ("i=2258", NodeAddress(STANDARD_NAMESPACE, "i", "2258")),
        (f"nsu={STANDARD_NAMESPACE};i=2258", NodeAddress(STANDARD_NAMESPACE, "i", "2258")),
    ],
)
def test_examples_of_addresses(text: str, address: NodeAddress) -> None:
    assert parse_node(text) == address


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("ns=2;s=Speed", "write nsu=URI;s=Speed"),
        ("s=Speed", "write nsu=URI;s=Speed"),
        ("nsu=urn:plant;i=Speed", "write i=NUMBER"),
        ("i=4294967296", "write i=NUMBER"),
        ("i=²", "write i=NUMBER"),
        ("Speed", "write nsu=URI;s=NAME"),
        ("nsu=urn:plant;g=Speed", "a GUID such as"),
        ("nsu=urn:plant;b=Speed", "base64"),
        ("nsu=urn:plant;s=", "write nsu=URI;s=NAME"),
    ],
)
def test_what_is_no_address_is_told_what_would_be(text: str, mend: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Tag(node=text)  # type: ignore[arg-type]

    assert mend in str(caught.value)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("opc.tcp://plc", "opc.tcp://plc:4840"),
        ("opc.tcp://plc/path", "opc.tcp://plc:4840/path"),
        ("opc.tcp://10.0.0.1:4840", "opc.tcp://10.0.0.1:4840"),
        ("opc.tcp://plc:4841/path/to", "opc.tcp://plc:4841/path/to"),
        ("opc.tcp://[fe80::1]:4841", "opc.tcp://[fe80::1]:4841"),
    ],
)
def test_addresses_of_servers_have_the_usual_port_where_they_name_none(url: str, whole: str) -> None:
    assert Connection(url=url).url == whole


@pytest.mark.parametrize("url", ["http://plc:4840", "plc:4840", "opc.tcp://", "opc.tcp://plc:x", "opc.tcp://me:pw@plc"])
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Connection(url=url)


def test_a_group_is_subscribed_to_at_its_own_interval_unless_it_says_otherwise() -> None:
    assert Group() == Group(mode="subscribe", sampling=None, queue=10)
