import math

import pytest

from contracts.v1.device import ValueType as T
from examples.plant.exchange import Exchange, held
from examples.plant.model import Plant
from examples.plant.signals import NODES, REGISTERS, Register

BY_TAG = {register.tag: register for register in REGISTERS}


@pytest.fixture
def plant() -> Plant:
    return Plant.from_seed(5)


def exchange_of(plant: Plant, tag: str) -> tuple[Exchange[Register], Register]:
    register = BY_TAG[tag]
    return Exchange(plant=plant, signals=[register]), register


@pytest.mark.parametrize(
    ("value", "kind", "scale", "content"),
    [
        (2.346, T.INT16, 0.01, 235),
        (-200.0, T.INT16, 0.001, -(2**15)),
        (40_000.0, T.INT16, 1.0, 2**15 - 1),
        (2**32 + 5, T.UINT32, 1.0, 5),
        (2.0**40, T.UINT64, 1.0, 2**40),
        (2**63 - 1, T.INT64, 1.0, 2**63 - 1),
        (249.6, T.UINT16, 1.0, 250),
        (3, T.FLOAT32, 1.0, 3.0),
        (1, T.BOOL, 1.0, True),
        ("Cola", T.STRING, 1.0, "Cola"),
        ((1, 2.5), T.ARRAY, 1.0, [1.0, 2.5]),
    ],
)
def test_a_value_is_held_in_its_type(value: object, kind: T, scale: float, content: object) -> None:
    result = held(value, kind, scale)

    assert result == content
    assert type(result) is type(content)


def test_a_value_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="is no uint16"):
        held("Cola", T.UINT16)


def test_every_signal_of_the_table_has_its_attribute_and_its_type(plant: Plant) -> None:
    plant.step(1.0)

    registers = dict(Exchange(plant=plant, signals=REGISTERS).changes())
    nodes = dict(Exchange(plant=plant, signals=NODES).changes())

    assert registers.keys() == set(REGISTERS)
    assert nodes.keys() == set(NODES)


def test_only_what_changed_is_given_again(plant: Plant) -> None:
    exchange = Exchange(plant=plant, signals=REGISTERS)
    list(exchange.changes())

    plant.command("recipe", "Cola")

    assert [(register.tag, value) for register, value in exchange.changes()] == [("recipe", "Cola")]


def test_a_broken_sensor_is_given_as_nan(plant: Plant) -> None:
    exchange, register = exchange_of(plant, "tank-level")
    plant.command("faults.level_broken", value=True)
    plant.step(0.1)

    (given,) = exchange.changes()

    assert given[0] is register
    assert isinstance(given[1], float)
    assert math.isnan(given[1])


def test_what_a_client_writes_reaches_the_model_scaled(plant: Plant) -> None:
    exchange, register = exchange_of(plant, "air-set-point")

    exchange.take(register, 710)

    assert plant.compressor.set_point_bar == pytest.approx(7.1)
    assert list(exchange.changes()) == []


def test_a_write_beyond_the_limit_is_put_right_in_the_server(plant: Plant) -> None:
    exchange, register = exchange_of(plant, "level-set-point")

    exchange.take(register, 99.0)

    assert list(exchange.changes()) == [(register, 85.0)]


def test_a_refused_recipe_is_put_right_in_the_server(plant: Plant) -> None:
    exchange, register = exchange_of(plant, "recipe")

    exchange.take(register, "Lava")

    assert list(exchange.changes()) == [(register, "Lemonade")]


def test_every_writable_signal_moves_its_attribute(plant: Plant) -> None:
    exchange = Exchange(plant=plant, signals=REGISTERS)
    before = dict(exchange.changes())

    for register in (register for register in REGISTERS if register.writable):
        was = before[register]
        assert isinstance(was, bool | int | float | str)
        wanted = "Cola" if isinstance(was, str) else (not was if isinstance(was, bool) else type(was)(was * 1.1 + 0))
        exchange.take(register, wanted)
        assert register not in dict(exchange.changes()), f"{register.tag} did not keep {wanted!r}"


@pytest.mark.parametrize(("tag", "written"), [("level-set-point", None), ("tank-level", 12.0)])
def test_what_cannot_be_taken_is_put_right_in_the_server(plant: Plant, tag: str, written: float | None) -> None:
    exchange, register = exchange_of(plant, tag)
    before = list(exchange.changes())

    exchange.take(register, written)

    assert list(exchange.changes()) == before
