"""The outbox: the latest value of each topic, once, and all of them again when the broker may have lost them."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import decode, encode
from contracts.v1.tag import TAG, TagValue
from services.runtime.bus.outbox import Outbox, Parcel, RetainedValue, message_of
from services.runtime.mqtt.envelope import Envelope, envelope_of


def envelope(topic: str) -> Envelope:
    return envelope_of(TAG, topic)


def value(topic: str, number: float) -> RetainedValue:
    def encoded(again: bool) -> bytes:
        return encode(TagValue(value=number, ts=1, q=192, seen=1, snapshot=again or None), topic="t")

    return RetainedValue(envelope(topic), encoded)


def cleared(topic: str) -> RetainedValue:
    return RetainedValue(envelope(topic), None)


def sent(parcels: list[Parcel]) -> list[tuple[str, float | None, bool | None]]:
    """What travels: topic, value, snapshot."""
    result: list[tuple[str, float | None, bool | None]] = []
    for parcel in parcels:
        label, data = message_of(parcel)
        message = decode(TagValue, data, topic=label.topic) if data else None
        result.append((label.topic, message and message.value, message and message.snapshot))  # type: ignore[arg-type]
    return result


def test_the_latest_value_of_a_topic_keeps_the_place_of_the_first() -> None:
    outbox = Outbox()
    for topic, number in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        outbox.put([value(topic, number)])

    assert sent(outbox.take(10)) == [("a", 3.0, None), ("b", 2.0, None)]
    assert outbox.take(10) == []


def test_no_more_is_taken_than_asked_for() -> None:
    outbox = Outbox()
    for topic in "abc":
        outbox.put([value(topic, 1.0)])

    assert [parcel.envelope.topic for parcel, _ in outbox.take(2)] == ["a", "b"]
    assert [parcel.envelope.topic for parcel, _ in outbox.take(2)] == ["c"]


def test_repeated_values_say_so_and_come_after_new_ones() -> None:
    outbox = Outbox()
    outbox.put([value("a", 1.0)])
    outbox.settle(outbox.take(10))
    outbox.put([value("b", 2.0)])

    outbox.repeat()

    assert sent(outbox.take(10)) == [("b", 2.0, None), ("a", 1.0, True)]


def test_a_value_that_did_not_get_through_is_no_repetition() -> None:
    outbox = Outbox()
    outbox.put([value("a", 1.0)])
    outbox.put_back(outbox.take(10))

    outbox.repeat()

    assert sent(outbox.take(10)) == [("a", 1.0, None)]


def test_a_newer_value_wins_over_one_that_is_put_back() -> None:
    outbox = Outbox()
    outbox.put([value("a", 1.0)])
    old = outbox.take(10)
    outbox.put([value("a", 2.0)])

    outbox.put_back(old)

    assert sent(outbox.take(10)) == [("a", 2.0, None)]


def test_a_cleared_topic_is_forgotten_once_the_broker_knows() -> None:
    outbox = Outbox()
    outbox.put([cleared("a")])
    clearing = outbox.take(10)
    outbox.repeat()
    assert sent(outbox.take(10)) == [("a", None, None)]

    outbox.settle(clearing)
    outbox.repeat()

    assert (len(outbox), outbox.kept) == (0, 0)


def test_a_topic_that_has_a_value_again_is_not_forgotten() -> None:
    outbox = Outbox()
    outbox.put([cleared("a")])
    clearing = outbox.take(10)
    outbox.put([value("a", 1.0)])

    outbox.settle(clearing)

    assert sent(outbox.take(10)) == [("a", 1.0, None)]


Step = st.tuples(
    st.sampled_from(["put", "clear", "send", "lose", "reconnect"]), st.sampled_from("abc"), st.integers(0, 9)
)


@given(st.lists(Step, max_size=60))
def test_in_the_end_the_broker_holds_exactly_the_latest_values(steps: list[tuple[str, str, int]]) -> None:
    outbox = Outbox()
    wanted: dict[str, float | None] = {}
    held: dict[str, float | None] = {}

    def send(most: int) -> None:
        parcels = outbox.take(most)
        held.update({topic: number for topic, number, _ in sent(parcels)})
        outbox.settle(parcels)

    for step, topic, number in steps:
        if step in ("put", "clear"):
            wanted[topic] = float(number) if step == "put" else None
            outbox.put([value(topic, float(number)) if step == "put" else cleared(topic)])
        elif step == "send":
            send(number)
        elif step == "lose":  # the connection breaks with these under way
            outbox.put_back(outbox.take(number))
        else:
            held.clear()
            outbox.repeat()
    send(10)

    assert {topic: number for topic, number in held.items() if number is not None} == {
        topic: number for topic, number in wanted.items() if number is not None
    }
