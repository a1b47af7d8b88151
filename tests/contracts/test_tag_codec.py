"""The fast tag codec and the pydantic model are one contract."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import MAX_BYTES, ContractError, decode
from contracts.v1.tag import TagValue
from contracts.v1.tag_codec import TagStruct, encode_tag
from tests.contracts.test_frame_codec import integers, text, typed, values

times = st.integers(0, 2**53 - 1)
tags = st.builds(
    TagStruct,
    value=values.filter(lambda value: not isinstance(value, list)) | st.lists(integers, max_size=5),
    ts=times,
    q=st.sampled_from([0, 64, 192]),
    seen=times,
    cause=st.none() | text,
    unit=st.none() | text,
    snapshot=st.none() | st.just(True),
)


@given(tags)
def test_what_the_fast_codec_writes_the_model_reads_alike(tag):
    fields = {name: getattr(tag, name) for name in tag.__struct_fields__}

    read = decode(TagValue, encode_tag(tag, topic="t"), topic="t").model_dump()

    assert typed({name: read.get(name) for name in fields}) == typed(fields)


@given(tags)
def test_both_codecs_write_the_same_fields_in_the_same_order(tag):
    fast = encode_tag(tag, topic="t")
    model = decode(TagValue, fast, topic="t")

    assert list(model.model_dump(mode="json")) == list(json.loads(fast))


def test_a_value_too_long_is_refused():
    with pytest.raises(ContractError, match=r"^t: \d+ bytes"):
        encode_tag(TagStruct("x" * MAX_BYTES, 1, 192, 1), topic="t")
