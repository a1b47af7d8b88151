"""Which gateway holds a device, by what the bus has told."""

import pytest

from contracts.v1.device import Circuit, DeviceState, DeviceStatus
from contracts.v1.service import ServiceState, ServiceStatus
from services.gateway.neighbours import Holder, Neighbours


def claim(gateway, sid):
    return DeviceState(state=DeviceStatus.ONLINE, since=0, gateway=gateway, sid=sid, circuit=Circuit.CLOSED)


def presence(instance, sid, since=1, status=ServiceStatus.ONLINE):
    return ServiceState(state=status, sid=sid, since=since, version="0", instance=instance)


@pytest.fixture
def neighbours():
    """North, which has been there since 5; south, since 3, says that it runs the pump."""
    neighbours = Neighbours(instance="north", sid="n")
    neighbours.on_service("north", presence("north", "n", since=5))
    neighbours.on_service("south", presence("south", "s", since=3))
    neighbours.on_state("pump", claim("south", "s"))
    return neighbours


def test_a_living_gateway_holds_what_it_claims(neighbours):
    assert neighbours.holder("pump") == Holder("south", "s", first=True)
    assert neighbours.holder("fan") is None


def test_a_gateway_that_died_or_began_anew_or_is_unknown_holds_nothing(neighbours):
    neighbours.on_service("south", presence("south", "s2"))
    assert neighbours.holder("pump") is None
    neighbours.on_service("south", presence("south", "s", status=ServiceStatus.OFFLINE))
    assert neighbours.holder("pump") is None
    neighbours.on_state("pump", claim("west", "w"))
    assert neighbours.holder("pump") is None


def test_who_asks_whether_a_name_is_free_takes_nothing_from_its_owner(neighbours):
    neighbours.on_service("south", presence("south", "asks", status=ServiceStatus.STARTING))

    assert neighbours.holder("pump") == Holder("south", "s", first=True)


def test_what_was_cleared_is_nobodys(neighbours):
    neighbours.on_state("pump", None)

    assert neighbours.holder("pump") is None


@pytest.mark.parametrize(("since", "first"), [(3, True), (5, False), (7, False)])
def test_who_came_earlier_is_first_and_of_two_at_once_the_one_first_by_name(neighbours, since, first):
    neighbours.on_service("south", presence("south", "s", since=since))

    assert neighbours.holder("pump").first is first


def test_the_picture_is_there_once_our_own_presence_has_come_back():
    neighbours = Neighbours(instance="north", sid="n")
    neighbours.on_service("north", presence("north", "an earlier session"))
    assert not neighbours.met
    neighbours.on_service("north", presence("north", "n"))
    assert neighbours.met
