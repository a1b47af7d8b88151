"""docs/pipelines.md says what the code does."""

import re

import pytest
import yaml

from contracts.v1.definition import TRIGGER_KINDS, Definition, Limits
from services.cli.check import folder_catalogue
from services.cli.site import TREE
from services.orchestrator.definition.definition_file import NODE_MODELS
from services.orchestrator.definition.validation import check_text
from services.orchestrator.expression.values import FUNCTIONS

PAGE = (TREE / "docs/pipelines.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
PLANT = folder_catalogue(TREE / "examples/plant")


def whole(block: str) -> str:
    """The block as a pipeline: one without nodes, or of a node alone, gets what it lacks."""
    content = yaml.safe_load(block)
    if "nodes" in content:
        return block
    if "recipe" in content:
        rest = {"pipeline": "t", "inputs": {"bottles": {"type": "integer"}}, "nodes": content}
    else:
        scaled = {"type": "expression", "expression": "x", "inputs": {"x": "inputs.speed"}}
        rest = {"pipeline": "t", **content, "nodes": {"scaled": scaled}}
    return yaml.safe_dump(rest)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_of_the_page_has_no_fault(block):
    assert check_text(whole(block), source="page", catalogue=PLANT).faults == ()


def test_every_field_of_every_node_stands_on_the_page():
    fields = {name for model in NODE_MODELS.values() for name in model.model_fields} | set(Limits.model_fields)
    words = set(re.findall(r"[a-z_]+", PAGE))

    assert {*fields, *NODE_MODELS, *TRIGGER_KINDS, *Definition.model_fields, *FUNCTIONS} <= words
