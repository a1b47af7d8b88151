"""What is typed wrongly is told in words, before anybody is asked."""

import pytest
import typer

from contracts.v1.event_store import ReadEvents
from contracts.v1.history import QueryHistory
from contracts.v1.message import CommandMessage
from contracts.v1.policy import Role
from contracts.v1.user import SetRole
from services.cli.asking import question

RANGE = {"since": 0, "until": 1}


@pytest.mark.parametrize(
    ("model", "asked", "told"),
    [
        (
            SetRole,
            {"role": Role.VIEWER, "devices": ["X Y"]},
            "devices[0]: 'X Y' cannot be a name; use 1 to 63 of a-z 0-9",
        ),
        (
            SetRole,
            {"role": Role.VIEWER, "writes": ["pump"]},
            "writes[0]: 'pump' cannot be a pattern; write DEVICE/TAG of",
        ),
        (QueryHistory, {**RANGE, "tags": ["a/b/c"]}, "tags[0]: 'a/b/c' cannot be a pattern; write DEVICE, TAG or"),
        (QueryHistory, {"since": 1, "until": 1, "tags": ["a"]}, "until: must be later than since"),
        (ReadEvents, {"scope": "plant", "aggregate": "", "aggregate_id": "x"}, "aggregate: '' cannot be a name; use 1"),
    ],
)
def test_a_name_or_pattern_outside_its_grammar_is_told_with_the_mend(
    model: type[CommandMessage], asked: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        question(model, asked)

    said = capsys.readouterr().err
    assert told in said
    assert "String should match" not in said
