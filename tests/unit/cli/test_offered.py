"""What a device offers becomes a tree to read and a device file that is accepted as it is."""

import re
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.topic import LEVEL_PATTERN
from contracts.v1.device import ValueType
from plugins.api.driver import Offer
from plugins.api.registry import Registry
from services.cli.offered import device_text, tag_names, tree
from services.gateway.device_file import DeviceFile, parse_device
from services.gateway.settings import SHIPPED_DRIVERS

DRIVERS = Registry([SHIPPED_DRIVERS], kind="driver")
WORDS = st.text(min_size=1, max_size=12) | st.just("Temperature " * 8)
PATHS = st.lists(st.lists(WORDS, min_size=1, max_size=4).map(tuple), max_size=12)


def variable(*path: str, **fields: object) -> Offer:
    node = {"node": "nsu=urn:plc;s=" + (".".join(path).strip() or "x")}
    given = {"type": ValueType.FLOAT64, "fields": node, **fields}
    return Offer(path=path, address=node["node"], kind="variable", **given)  # type: ignore[arg-type]


def read(offers: Sequence[Offer]) -> DeviceFile:
    text = device_text(
        device="plc",
        driver="opcua",
        connection={"url": "opc.tcp://plc:4840"},
        offers=offers,
        interval="1s",
        origin="by a test",
    )
    return parse_device(text, source="plc.yaml", drivers=DRIVERS)


@given(PATHS)
def test_every_path_gets_a_name_of_its_own_that_is_valid(paths: list[tuple[str, ...]]) -> None:
    names = tag_names(paths)

    assert len(set(names)) == len(paths)
    assert all(re.fullmatch(LEVEL_PATTERN, name) for name in names)


def test_a_name_is_as_short_as_it_can_be_and_still_its_own() -> None:
    paths = [("Line", "FillerSpeed"), ("Line", "Oven", "Temperature [°C]"), ("Line", "Tank", "Temperature [°C]")]

    assert tag_names(paths) == ["filler-speed", "oven-temperature-c", "tank-temperature-c"]
    assert tag_names([("Linie", "Füllmenge Größe 2")]) == ["fullmenge-grosse-2"]


def test_names_that_nothing_tells_apart_are_numbered() -> None:
    assert tag_names([("a",), ("A",), ("a-2",), ("阀",)]) == ["a", "a-3", "a-2", "tag"]


def test_tens_of_thousands_that_nothing_tells_apart_are_numbered_in_one_go() -> None:
    names = tag_names([("阀",)] * 50_000)  # with a search from 2 for each it was minutes

    assert names[:3] == ["tag", "tag-2", "tag-3"]
    assert names[-1] == "tag-50000"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.builds(variable, WORDS, WORDS, unit=st.none() | WORDS, note=WORDS), min_size=1, max_size=5))
def test_the_file_is_accepted_whatever_a_server_calls_its_things(offers: list[Offer]) -> None:
    device = read(offers)

    assert [tag.title for tag in device.tags.values()] == ["/".join(offer.path) for offer in offers]
    assert [tag.unit for tag in device.tags.values()] == [offer.unit for offer in offers]


def test_what_cannot_be_a_tag_stands_in_a_comment_with_its_reason() -> None:
    text = device_text(
        device="plc",
        driver="opcua",
        connection={"url": "opc.tcp://plc:4840"},
        offers=[variable("Speed", range=(0.0, 10.0)), variable("Motor", obstacle="a structure")],
        interval="1s",
        origin="by a test",
    )

    assert "#   Motor: a structure\n" in text
    assert "range: [0.0, 10.0]" in text


def test_a_long_list_is_several_groups() -> None:
    device = read([variable(f"V{n}") for n in range(2300)])

    assert [(group.name, len(group.tags)) for group in device.spec.groups] == [
        ("live", 1000),
        ("live-2", 1000),
        ("live-3", 300),
    ]


def test_the_tree_stands_under_what_it_belongs_to() -> None:
    offers = [
        Offer(path=("Line",), address="nsu=urn:plc;s=Line", kind="folder"),
        variable("Top", writable=True),
        variable("Line", "Speed", unit="1/h", range=(0.0, 10.0)),
    ]

    assert list(tree(offers)) == [
        "Line/",
        "  Speed  float64 1/h  [0, 10]  r  nsu=urn:plc;s=Line.Speed",
        "Top  float64  rw  nsu=urn:plc;s=Top",
    ]
