"""The pictures of the architecture are those of its text, and what it names is there."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

TREE = Path(__file__).parents[2]
FOLDER = TREE / "docs" / "diagrams"
MODEL: dict[str, Any] = yaml.safe_load((FOLDER / "architecture.yaml").read_text())
NOT_DRAWN = {"init", "dinrail", "plant"}
"""Of docker-compose.yml: commands that end, and the simulated machines of the demo."""


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    """The program that draws, which is no part of the product."""
    spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_is_drawn_of_the_text_as_it_is_now_and_stands_in_the_page(drawing: ModuleType) -> None:
    page = (TREE / "docs" / "architecture.md").read_text()
    texts = drawing.texts(MODEL)

    assert {path.stem for path in FOLDER.glob("*.svg")} == set(texts), "make diagrams"
    for name, text in texts.items():
        assert (FOLDER / f"{name}.dot").read_text() == text, f"{name}: make diagrams"
        assert drawing.digest(text) in (FOLDER / f"{name}.svg").read_text(), f"{name}: make diagrams"
        assert f"(diagrams/{name}.svg)" in page


def test_the_containers_of_the_picture_are_those_of_docker_compose() -> None:
    composed = set(yaml.safe_load((TREE / "docker-compose.yml").read_text())["services"]) - NOT_DRAWN
    drawn = {name for names in MODEL["views"]["containers"]["inside"].values() for name in names}

    assert drawn == composed


@pytest.mark.parametrize("service", ["gateway", "recorder", "orchestrator"])
def test_what_a_component_is_made_of_is_there(service: str) -> None:
    (names,) = MODEL["views"][service]["inside"].values()
    for name in names:
        for part in MODEL["elements"][name]["with"].split(", "):
            assert (TREE / part).exists() or (TREE / "services" / service / part).exists(), f"{name}: {part}"
