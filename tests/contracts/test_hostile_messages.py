"""Whatever bytes come, a message is read or refused with one clear error, in bounded memory."""

import json
import tracemalloc
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import DEEPEST, MAX_BYTES, ContractError, check_nesting, decode, encode
from contracts.publication import models
from contracts.v1.command import Reply
from contracts.v1.event_codec import EventsStruct, EventStruct, decode_events, encode_events, event_data
from contracts.v1.frame_codec import decode_frame, decode_header
from tests.hostile_messages import BROKEN, examples, huge, scrambled, spoilt

EXAMPLES = examples()
FAST: dict[str, Callable[..., object]] = {"frame": decode_frame, "header": decode_header, "events": decode_events}
LONGEST_ERROR = 4000
MOST_MEMORY = 150 * MAX_BYTES
"""A list of empty objects takes 64 bytes each in Python, and stands twice in memory while it is checked."""


def read(name: str, data: bytes) -> object:
    """The message, or the error that its sender or the log gets; anything else fails the test."""
    try:
        if name in FAST:
            return FAST[name](data, topic="the/topic")
        return decode(models()[name], data, topic="the/topic")
    except ContractError as error:
        refusal = error
    told = str(refusal)
    assert told.startswith("the/topic: ")
    assert len(told) <= LONGEST_ERROR
    assert "\n" not in told
    return refusal


@pytest.mark.parametrize("name", [*models(), *FAST])
def test_what_is_no_message_is_refused_with_one_error(name: str) -> None:
    for data in BROKEN:
        read(name, data)
    assert isinstance(read(name, b"[" * 100_000), ContractError)


@pytest.mark.parametrize("name", ["CallFunction", "frame", "events"])
def test_what_is_huge_or_nested_without_end_is_refused_in_bounded_memory(name: str) -> None:
    read(name, b"{}")  # its validator is built with the first message
    for data in huge():
        tracemalloc.start()
        try:
            result = read(name, data)
            assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
        finally:
            tracemalloc.stop()
        assert isinstance(result, ContractError)


@pytest.mark.parametrize(("model", "good"), [(topic.payload.__name__, payload) for topic, _, payload in EXAMPLES])
def test_a_good_message_with_one_thing_wrong_is_read_or_refused_with_one_error(model: str, good: bytes) -> None:
    for data in spoilt(good):
        read(model, data)


@given(st.sampled_from(EXAMPLES), st.integers(0, 2**32))
def test_a_scrambled_message_is_read_or_refused_with_one_error(example, seed):
    topic, _, good = example
    data = scrambled(good, Random(seed))

    read(topic.payload.__name__, data)
    for name in FAST:
        read(name, data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_one_error(data):
    for name in ("Write", "Events", "Reply", *FAST):
        read(name, data)


def nested(levels: int) -> object:
    """A list in a list, and so on."""
    value: object = "[{"
    for _ in range(levels):
        value = [value]
    return value


def events_of(data: object) -> bytes:
    """A message of one event with these data."""
    event = EventStruct("i", "device", "plc", "plant", 1, "online", 1, data=event_data({"x": data}))
    return encode_events(EventsStruct("gateway", 1, 1, [event]), topic="the/topic")


def reply_with(value: object) -> bytes:
    """A reply that has it in its result."""
    return encode(Reply.model_construct(ok=True, result={"x": value}), topic="the/topic")


def read_reply(data: bytes, *, topic: str) -> Reply:
    """The reply."""
    return decode(Reply, data, topic=topic)


# Around the value stand: the message, the events, the event, its data; or the message and the result.
@pytest.mark.parametrize(("send", "take", "around"), [(events_of, decode_events, 4), (reply_with, read_reply, 2)])
def test_what_is_sent_can_be_read_and_what_is_nested_too_deep_is_refused_at_the_sender(
    send: Callable[[object], bytes], take: Callable[..., object], around: int
) -> None:
    take(send(nested(DEEPEST - around)), topic="the/topic")

    for levels in (DEEPEST - around + 1, 199, 240):
        with pytest.raises(ContractError, match=f"the/topic: more than {DEEPEST} lists and objects"):
            send(nested(levels))


JSON = st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=50)
@given(JSON, st.integers(0, 130), st.booleans())
def test_nesting_is_counted_as_a_parser_counts_it(value, more, escaped):
    def depth(part: object) -> int:
        parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else None
        return 0 if parts is None else 1 + max(map(depth, parts), default=0)

    for _ in range(more):
        value = [value, "]}{["]
    data = json.dumps([value, [[]] * DEEPEST], ensure_ascii=escaped).encode()

    if depth(value) + 1 > DEEPEST:
        with pytest.raises(ContractError, match="stand inside one another"):
            check_nesting(data, topic="t")
    else:
        check_nesting(data, topic="t")
