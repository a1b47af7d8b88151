"""The fast codec of events and the pydantic model are one contract."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import MAX_BYTES, ContractError, decode
from contracts.v1.event import Events
from contracts.v1.event_codec import EventsStruct, EventStruct, decode_events, encode_events, event_data
from contracts.v1.frame_codec import PreviousStruct
from contracts.v1.message import LAST_SAFE_INTEGER

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
positive = st.integers(1, LAST_SAFE_INTEGER)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
events = st.fixed_dictionaries(
    {
        "id": text,
        "aggregate": names,
        "aggregate_id": names,
        "scope": names,
        "version": positive,
        "type": st.from_regex(r"[a-z][a-z0-9_]{0,9}(\.[a-z][a-z0-9_]{0,9}){0,2}", fullmatch=True),
        "t": st.integers(0, LAST_SAFE_INTEGER),
    },
    optional={
        "user": st.none() | names,
        "cause": st.none() | text,
        "data": st.dictionaries(text, values, max_size=3),
        "news": values,
    },
)
messages = st.fixed_dictionaries(
    {"owner": names, "epoch": positive, "seq": positive, "events": st.lists(events, max_size=3)},
    optional={
        "prev": st.fixed_dictionaries({"epoch": positive, "last_seq": st.integers(0, 99)}),
        "closed": st.booleans(),
    },
)


@given(messages, st.booleans())
def test_both_codecs_read_events_alike(content, escaped):
    data = json.dumps(content, ensure_ascii=escaped).encode()

    fast, slow = decode_events(data, topic="t"), decode(Events, data, topic="t")

    assert (fast.owner, fast.epoch, fast.seq, fast.closed) == (slow.owner, slow.epoch, slow.seq, slow.closed)
    assert (fast.prev and fast.prev.last_seq) == (slow.prev and slow.prev.last_seq)
    for one, other in zip(fast.events, slow.events, strict=True):
        assert json.loads(bytes(one.data)) == other.data
        for name in ("id", "aggregate", "aggregate_id", "scope", "version", "type", "t", "user", "cause"):
            assert getattr(one, name) == getattr(other, name), name


@given(messages)
def test_what_the_fast_codec_writes_the_model_reads(content):
    known = [{**event, "data": event_data(event.get("data", {}))} for event in content["events"]]
    prev = content.get("prev")
    message = EventsStruct(
        owner=content["owner"],
        epoch=content["epoch"],
        seq=content["seq"],
        events=[EventStruct(**{name: one for name, one in event.items() if name != "news"}) for event in known],
        prev=PreviousStruct(**prev) if prev else None,
        closed=content.get("closed"),
    )

    read = decode(Events, encode_events(message, topic="t"), topic="t")

    assert read == decode(Events, json.dumps(content).encode(), topic="t")


def test_what_is_no_json_cannot_be_told_and_what_is_no_number_is_null():
    with pytest.raises(ValueError, match="serialize"):
        event_data({"value": object()})
    assert bytes(event_data({"a": float("nan"), "b": [float("inf")]})) == b'{"a":null,"b":[null]}'


def message(**event):
    whole = {"id": "1", "aggregate": "device", "aggregate_id": "pump", "scope": "plant", "version": 1, "t": 1}
    whole |= {"type": "online", **event}
    return json.dumps({"owner": "gateway", "epoch": 1, "seq": 1, "events": [whole]}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        message(data=5),
        message(data=[]),
        message(version=0),
        message(version=1.0),
        message(version=True),
        message(t=-1),
        message(aggregate="No Name"),
        message(aggregate_id="pump\n"),
        message(scope="x" * 64),
        message(user="../x"),
        message(type="Online"),
        message(type="write..done"),
        message(type="online\n"),
        message(id=1),
        message(data={"x": "X"}).replace(b"X", b"\\ud800"),
        message(data={"x": "X"}).replace(b"X", b"\xff"),
        message(id="X").replace(b"X", b"\\ud800"),
        message(data={"x": "X"}).replace(b'"X"', b"[" * 300 + b"]" * 300),
        message(data={"x": "X"}).replace(b'"X"', b"[" * 5000 + b"]" * 5000),
        message(data={"x": "x" * MAX_BYTES}),
    ],
)
def test_both_codecs_refuse_the_same(data):
    with pytest.raises(ContractError, match=r"^t: "):
        decode_events(data, topic="t")
    with pytest.raises(ContractError, match=r"^t: "):
        decode(Events, data, topic="t")


@pytest.mark.parametrize("event", [{"version": 2**53}, {"t": 2**63}])
def test_a_number_that_no_database_holds_is_refused(event):
    with pytest.raises(ContractError):
        decode_events(message(**event), topic="t")
