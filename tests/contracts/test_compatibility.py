"""What may change within v1, and what may not."""

import json
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from contracts.compatibility import breaks
from contracts.publication import documents, models, schema_of
from contracts.topic import LEVEL_PATTERN
from contracts.v1.definition import Definition
from contracts.v1.message import Level
from services.cli.contracts import contracts_app


class Mode(StrEnum):
    AUTO = "auto"
    HAND = "hand"


class WiderMode(StrEnum):
    AUTO = "auto"
    HAND = "hand"
    OFF = "off"


class Inner(BaseModel):
    depth: int


class Released(BaseModel):
    """The released message."""

    name: str
    level: float | None = None
    mode: Mode = Mode.AUTO
    inner: Inner
    pair: tuple[int, str]
    parts: list[Inner] = Field(default_factory=list)
    table: dict[str, int] = Field(default_factory=dict)


def changed(**fields: tuple[object, object]) -> dict:
    """The schema of the released message with these fields redefined or added."""
    annotations = {name: annotation for name, (annotation, _) in fields.items()}
    defaults = {name: default for name, (_, default) in fields.items() if default is not ...}
    return schema_of(
        type("Released", (Released,), {"__annotations__": annotations, **defaults, "__module__": __name__})
    )


def without(field: str) -> dict:
    schema = schema_of(Released)
    del schema["properties"][field]
    return schema


def verdict(new: dict) -> list[str]:
    return breaks(schema_of(Released), new, name="Released")


def test_the_same_schema_passes():
    assert verdict(schema_of(Released)) == []


def test_an_added_optional_field_passes():
    assert verdict(changed(colour=(str | None, None))) == []


def test_another_description_passes():
    schema = schema_of(Released)
    schema["description"] = "Said in other words."

    assert verdict(schema) == []


@pytest.mark.parametrize("field", ["name", "level", "inner", "table"])
def test_a_removed_field_fails(field):
    assert f"Released.{field}: removed" in verdict(without(field))


def test_an_added_required_field_fails():
    assert verdict(changed(colour=(str, ...))) == ["Released.colour: newly required"]


def test_an_optional_field_that_becomes_required_fails():
    assert "Released.mode: newly required" in verdict(changed(mode=(Mode, ...)))


def test_a_required_field_that_becomes_optional_fails():
    assert any("no longer required" in line for line in verdict(changed(name=(str, "x"))))


@pytest.mark.parametrize(
    ("field", "annotation"),
    [
        ("name", int),
        ("level", int | None),
        ("level", float | str | None),
        ("mode", WiderMode),
        ("pair", tuple[int, int]),
        ("pair", tuple[int, str, str]),
        ("parts", list[int]),
        ("table", dict[str, float]),
    ],
)
def test_a_retyped_field_fails(field, annotation):
    default = ... if field in {"name", "pair"} else schema_default(field)

    assert any(
        "retyped" in line and f"Released.{field}" in line for line in verdict(changed(**{field: (annotation, default)}))
    )


def schema_default(field: str) -> object:
    return {"level": None, "mode": WiderMode.AUTO, "parts": [], "table": {}}[field]


def test_a_fault_inside_a_referenced_model_is_found_at_its_place():
    schema = schema_of(Released)
    schema["$defs"]["Inner"]["properties"]["depth"]["type"] = "string"

    assert verdict(schema) == ['Released.inner.depth: retyped from {"type": "integer"} to {"type": "string"}']


def test_a_narrowed_range_fails():
    schema = schema_of(Released)
    schema["properties"]["name"]["maxLength"] = 3

    assert any("Released.name: retyped" in line for line in verdict(schema))


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


class Owner(BaseModel):
    pets: dict[Level, Annotated[Cat | Dog, Field(discriminator="kind")]]


def test_a_change_inside_a_kind_of_a_union_below_free_names_is_found():
    schema = schema_of(Owner)
    schema["$defs"]["Cat"]["properties"]["lives"]["type"] = "string"

    assert breaks(schema_of(Owner), schema, name="Owner") == [
        'Owner.pets.*(cat).lives: retyped from {"type": "integer"} to {"type": "string"}'
    ]


def test_a_kind_may_be_added_to_a_union_and_none_may_go():
    fewer = schema_of(Owner)
    del fewer["properties"]["pets"]["patternProperties"][f"^{LEVEL_PATTERN}$"]["discriminator"]["mapping"]["dog"]

    assert breaks(fewer, schema_of(Owner), name="Owner") == []
    assert breaks(schema_of(Owner), fewer, name="Owner") == ["Owner.pets.*(dog): removed"]


def test_a_node_of_a_pipeline_keeps_what_was_released():
    schema = schema_of(Definition)
    del schema["$defs"]["ReadNode"]["properties"]["source"]

    (fault,) = breaks(schema_of(Definition), schema, name="Definition")
    assert fault.endswith(".nodes.*(read).source: removed")


def _folder(tmp_path):
    for name, text in documents({}).items():
        for path in (tmp_path / name, tmp_path / name.replace("schema/v1", "schema/released/v1")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return tmp_path


def test_the_command_passes_when_documents_are_current_and_compatible(tmp_path):
    outcome = CliRunner().invoke(contracts_app, ["check", "--folder", str(_folder(tmp_path))])

    assert outcome.exit_code == 0, outcome.output
    assert f"{len(models())} messages" in outcome.output


def test_the_command_fails_and_says_what_broke_when_a_released_field_is_gone(tmp_path):
    path = _folder(tmp_path) / "schema/released/v1/TagValue.json"
    schema = json.loads(path.read_text())
    schema["properties"]["colour"] = {"type": "string"}
    path.write_text(json.dumps(schema))

    outcome = CliRunner().invoke(contracts_app, ["check", "--folder", str(tmp_path)])

    assert outcome.exit_code == 1
    assert "TagValue.colour: removed" in outcome.output
    assert "only optional fields may be added" in outcome.output


def test_a_release_that_would_break_the_released_v1_is_refused(tmp_path):
    path = _folder(tmp_path) / "schema/released/v1/TagValue.json"
    schema = json.loads(path.read_text())
    schema["required"].remove("q")
    path.write_text(json.dumps(schema))
    before = path.read_text()

    outcome = CliRunner().invoke(contracts_app, ["release", "--folder", str(tmp_path)])

    assert outcome.exit_code == 1
    assert path.read_text() == before
