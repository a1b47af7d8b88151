"""Each text of a pipeline is read once, and the oldest are forgotten."""

import pytest

from plugins.api.document import DocumentError
from services.orchestrator.pipelines import definitions
from services.orchestrator.pipelines.definitions import Definitions


def text(name: str) -> str:
    return f"pipeline: {name}\nnodes: {{one: {{type: delay, duration: 1ms}}}}\n"


async def test_a_text_is_read_once_for_all_who_want_to_know() -> None:
    known = Definitions()

    first = await known.soon(text("tank"))

    assert known.of(text("tank")) is first
    assert await known.soon(text("tank")) is first
    assert known.of(text("pump")).pipeline == "pump"


async def test_what_has_faults_is_told_each_time() -> None:
    known = Definitions()

    for _ in range(2):
        with pytest.raises(DocumentError, match="nodes"):
            known.of("pipeline: tank\n")
        with pytest.raises(DocumentError, match="nodes"):
            await known.soon("pipeline: tank\n")


def test_of_many_texts_those_that_came_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "MOST", 2)
    known = Definitions()
    first, second, _ = (known.of(text(name)) for name in ("a", "b", "c"))

    assert known.of(text("b")) is second
    assert known.of(text("a")) is not first


def test_long_texts_are_forgotten_sooner_than_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "MOST_CHARACTERS", 2 * len(text("a")))
    known = Definitions()
    first, second, _ = (known.of(text(name)) for name in ("a", "b", "c"))

    assert known.of(text("b")) is second
    assert known.of(text("b")) is known.learn(text("b"), second)
    assert known.of(text("a")) is not first
