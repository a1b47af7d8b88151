"""A YAML document that is hostile, or made by a machine gone wrong."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from plugins.api import document
from plugins.api.document import Document, DocumentError

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029"), max_size=8)
CONTENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=10,
)


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory():
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for name, before in zip("bcdefghijkl", "abcdefghijk", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"

    with pytest.raises(DocumentError, match=r"pump\.yaml:1: more than 200000 fields") as refused:
        Document.parse(text, source="pump.yaml")

    assert refused.value.faults[0].mend


def test_an_alias_that_is_used_twice_is_read_twice():
    document = Document.parse("a: &a {x: 1}\nb: *a\n", source="pump.yaml")

    assert document.data == {"a": {"x": 1}, "b": {"x": 1}}
    assert document.line(("b", "x")) == 1


@pytest.mark.parametrize("deep", ["[" * 20_000, "- " * 20_000, "{a: " * 20_000])
def test_a_text_that_nests_without_end_is_refused(deep: str):
    with pytest.raises(DocumentError, match="not YAML"):
        Document.parse(deep, source="pump.yaml")


@given(content=st.dictionaries(WORDS, CONTENTS, min_size=1, max_size=3), flow=st.sampled_from([None, True, False]))
def test_the_quick_parser_reads_what_the_plain_one_reads(content: dict[str, object], flow: bool | None):
    text = yaml.safe_dump(content, allow_unicode=True, default_flow_style=flow)
    quick = Document.parse(text, source="pump.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "_QUICK", [])
        plain = Document.parse(text, source="pump.yaml")

    assert (quick.data, quick.lines) == (plain.data, plain.lines)


def test_a_tab_is_named_where_it_indents():
    with pytest.raises(DocumentError, match=r"pump\.yaml:2: .*\n.*not with tabs"):
        Document.parse("a:\n\tb: 1\n", source="pump.yaml")


@pytest.mark.parametrize(
    "scalar",
    ["2026-02-30", "2026-01-01T00:00:00+99:99", "0x_", "1" * 5000, "!!int ''", "!!bool maybe", "!!timestamp x"],
)
def test_what_looks_like_a_date_or_a_number_and_is_none_is_a_fault_of_its_line(scalar: str):
    with pytest.raises(DocumentError, match="looks like a date or a number") as refused:
        Document.parse(f"device: pump\ntitle: {scalar}\n", source="pump.yaml")

    (fault,) = refused.value.faults
    assert (fault.line, fault.mend) == (2, "put quotes around it if it is a word")


@pytest.mark.parametrize("field", ["<<: 3", "limits: !!set [x]", "limits: !!map [x]"])
def test_what_is_no_word_is_not_told_to_be_quoted_as_one(field: str):
    with pytest.raises(DocumentError, match="not YAML") as refused:
        Document.parse(f"device: pump\n{field}\n", source="pump.yaml")

    (fault,) = refused.value.faults
    assert (fault.line, fault.mend) == (2, "look at the indentation, colons and quotes around it")


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    baudrate: int = 19200


class Connection(BaseModel):
    line: Line | None = None
    lines: dict[str, Line] = {}


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("line:\n  baud: 9600\n", "did you mean 'baudrate'? known keys: baudrate"),
        ("lines:\n  baudrate:\n    baud: 9600\n", "remove it"),
    ],
)
def test_an_unknown_key_among_fields_that_may_be_left_out_is_told_the_near_one(text: str, mend: str):
    read = Document.parse(text, source="line.yaml")
    with pytest.raises(ValidationError) as refused:
        Connection.model_validate(read.data)

    (fault,) = read.faults_of(refused.value, model=Connection)
    assert (fault.message, fault.mend) == ("unknown key", mend)
