"""Which devices are marked for the death of their gateway, and which are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1.device import (
    GATEWAY_LOST,
    Circuit,
    DeviceInfo,
    DeviceState,
    DeviceStatus,
    TagInfo,
    ValueType,
    tag_hash,
)
from contracts.v1.service import ServiceState, ServiceStatus
from services.orchestrator.watchdog import Watchdog

ONLINE, STARTING, OFFLINE = ServiceStatus.ONLINE, ServiceStatus.STARTING, ServiceStatus.OFFLINE


def service(status, sid):
    return ServiceState(state=status, sid=sid, since=1, version="1", instance="g1")


def state(sid="s1", status=DeviceStatus.ONLINE, cause=None, gateway="g1"):
    return DeviceState(state=status, since=1, gateway=gateway, sid=sid, circuit=Circuit.CLOSED, cause=cause)


def info(gateway="g1"):
    tags = {"level": TagInfo(type=ValueType.FLOAT32, group="fast", unit="%")}
    return DeviceInfo(
        device="pump",
        driver="modbus",
        gateway=gateway,
        rev="r",
        tags=tags,
        groups={},
        tag_count=1,
        tag_hash=tag_hash(tags),
    )


@pytest.fixture
def dog():
    watching = Watchdog()
    watching.on_service("g1", service(ONLINE, "s1"))
    watching.on_info("pump", info())
    watching.on_state("pump", state())
    return watching


def test_the_devices_of_a_dead_gateway_are_marked_with_their_tags(dog):
    (mark,) = dog.on_service("g1", service(OFFLINE, "s1"))

    assert (mark.device, mark.state, dict(mark.units)) == ("pump", state(), {"level": "%"})
    assert dog.stands(mark)


def test_a_death_marks_once(dog):
    (mark,) = dog.on_service("g1", service(OFFLINE, "s1"))

    assert dog.on_service("g1", service(OFFLINE, "s1")) == []
    assert dog.on_state("pump", state(status=DeviceStatus.OFFLINE, cause=GATEWAY_LOST)) is None
    assert dog.on_info("pump", info()) is None
    assert dog.stands(mark)


def test_a_stale_death_marks_nothing(dog):
    dog.on_service("g1", service(ONLINE, "s2"))

    assert dog.on_service("g1", service(OFFLINE, "s1")) == []
    assert dog.on_state("pump", state("s2")) is None


def test_a_death_seen_before_the_devices_were_marks_them_when_they_come():
    dog = Watchdog()
    assert dog.on_service("g1", service(OFFLINE, "s1"), retained=True) == []
    assert dog.on_info("pump", info()) is None

    assert dog.on_state("pump", state(), retained=True).device == "pump"


def test_a_gateway_that_died_twice_leaves_its_devices_of_the_first_life_marked():
    dog = Watchdog()
    dog.on_service("g1", service(OFFLINE, "s2"), retained=True)
    dog.on_info("pump", info())

    assert dog.on_state("pump", state("s1"), retained=True).state.sid == "s1"


def test_a_device_of_a_life_that_has_only_begun_is_left_alone(dog):
    dog.on_service("g1", service(STARTING, "s2"))
    dog.on_state("pump", state("s2"))

    assert dog.on_service("g1", service(OFFLINE, "s1")) == []


def test_one_who_asks_for_the_name_does_not_hide_a_death(dog):
    dog.on_service("g1", service(STARTING, "rival"))

    assert len(dog.on_service("g1", service(OFFLINE, "s1"))) == 1


def test_a_gateway_that_dies_at_its_begin_is_dead(dog):
    dog.on_service("g1", service(STARTING, "s2"))

    assert len(dog.on_service("g1", service(OFFLINE, "s2"))) == 1


def test_a_mark_gives_way_when_the_gateway_is_back(dog):
    (mark,) = dog.on_service("g1", service(OFFLINE, "s1"))

    dog.on_service("g1", service(ONLINE, "s1"))  # the line was broken, not the gateway
    assert not dog.stands(mark)
    assert dog.on_state("pump", state()) is None

    assert len(dog.on_service("g1", service(OFFLINE, "s1"))) == 1


@pytest.mark.parametrize(
    ("status", "cause", "marked"),
    [
        (DeviceStatus.OFFLINE, "stopped", 0),
        (DeviceStatus.DISABLED, None, 0),
        (DeviceStatus.OFFLINE, "comm", 1),
        (DeviceStatus.STARTING, None, 1),
        (DeviceStatus.DEGRADED, "comm", 1),
    ],
)
def test_what_a_gateway_has_told_itself_at_its_end_is_not_told_again(dog, status, cause, marked):
    dog.on_state("pump", state(status=status, cause=cause))

    assert len(dog.on_service("g1", service(OFFLINE, "s1"))) == marked


def test_a_device_that_moved_to_another_gateway_is_not_marked(dog):
    dog.on_info("pump", info("g2"))
    dog.on_state("pump", state("t1", gateway="g2"))

    assert dog.on_service("g1", service(OFFLINE, "s1")) == []


def test_a_device_that_is_gone_is_not_marked(dog):
    dog.on_state("pump", None)
    dog.on_info("pump", None)

    assert dog.on_service("g1", service(OFFLINE, "s1")) == []


@given(st.permutations(["birth", "info", "state", "death"]))
def test_whatever_comes_first_a_dead_gateways_device_is_marked_once(order):
    """Each kind of message has a queue of its own; only a birth and its death keep their order."""
    if order.index("death") < order.index("birth"):
        order = [{"birth": "death", "death": "birth"}.get(step, step) for step in order]
    dog, marks = Watchdog(), []
    for step in order:
        if step == "birth":
            given_ = dog.on_service("g1", service(ONLINE, "s1"))
        elif step == "death":
            given_ = dog.on_service("g1", service(OFFLINE, "s1"))
        else:
            given_ = [dog.on_info("pump", info()) if step == "info" else dog.on_state("pump", state())]
        marks += [mark for mark in given_ if mark]

    assert [mark.device for mark in marks] == ["pump"]
