"""What the threat model says is shown by a test is: the file is there."""

import re
from pathlib import Path

TREE = Path(__file__).parents[2]


def test_every_test_that_the_threat_model_names_is_there() -> None:
    page = (TREE / "docs" / "threat-model.md").read_text()
    named = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)*/test_[a-z0-9_]+\.py)`", page))

    assert len(named) > 15
    assert sorted(name for name in named if not (TREE / "tests" / name).is_file()) == []
