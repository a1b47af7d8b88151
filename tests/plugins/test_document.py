"""A YAML document that is hostile, or made by a machine gone wrong."""

import pytest

from plugins.api.document import Document, DocumentError


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
