import pytest
from pydantic import BaseModel, ValidationError

from plugins.api.document import Document
from plugins.api.duration import Seconds, parse_duration


class Group(BaseModel):
    interval: Seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1s", 1.0), ("1.5s", 1.5), ("5m", 300.0), ("2h", 7200.0), ("7d", 604800.0), (" 10 ms ", 0.01)],
)
def test_a_number_with_its_unit_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given", ["", "s", "1", "-1s", "1 week", "1s2", "٣s", "1e3s", "9" * 400 + "s", None, True, [], -1]
)
def test_anything_else_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(given)


@pytest.mark.parametrize(("given", "mend"), [(5, "write 5s or 5ms"), (0.5, "write 0.5s or 0.5ms")])
def test_a_bare_number_is_refused_with_the_mend(given: float, mend: str) -> None:
    document = Document.parse(f"interval: {given}", source="pump.yaml")

    with pytest.raises(ValidationError) as refused:
        Group.model_validate(document.data)

    [fault] = document.faults_of(refused.value)
    assert str(fault) == f"pump.yaml:1: interval: a duration needs its unit (given: {given})\n    mend: {mend}"
