"""RTU frames are found among noise, and never taken for what they are not."""

from hypothesis import assume, given
from hypothesis import strategies as st

from plugins.drivers.modbus.address import Table
from plugins.drivers.modbus.request import ReadRequest, read_request
from plugins.drivers.modbus.rtu_frame import Debts, find_answer, frame, garbled
from plugins.drivers.modbus.rtu_simulator import with_checksum

UNITS = st.integers(1, 247)
REQUESTS = st.builds(read_request, UNITS, st.sampled_from(Table), st.integers(0, 1000), st.integers(1, 125))
NOISE = st.binary(max_size=12)


def answer_to(request: ReadRequest, fill: int = 0x5A) -> bytes:
    return request.head + bytes([fill]) * (request.size - len(request.head))


def sent(request: ReadRequest, pdu: bytes) -> bytes:
    return with_checksum(bytes([request.unit]) + pdu)


def test_a_request_is_framed_as_in_the_standards_example() -> None:
    """A read of holding register 0 of unit 1, whose checksum every manual prints."""
    assert frame(read_request(1, Table.HOLDING, 0, 1)).hex(" ") == "01 03 00 00 00 01 84 0a"


@given(REQUESTS, NOISE, st.binary(max_size=4))
def test_an_answer_is_found_behind_noise_and_before_more_of_it(
    request: ReadRequest, before: bytes, after: bytes
) -> None:
    assume(request.unit not in before)
    whole = sent(request, answer_to(request))

    assert find_answer(before + whole + after, {request.unit: request}) == (
        request.unit,
        answer_to(request),
        len(before) + len(whole),
    )


@given(REQUESTS, st.data())
def test_part_of_an_answer_is_no_answer_yet(request: ReadRequest, data: st.DataObject) -> None:
    whole = sent(request, answer_to(request))
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]

    assert find_answer(part, {request.unit: request}) is None
    assert not garbled(part, request)


@given(REQUESTS, st.data())
def test_an_answer_with_a_flipped_bit_is_garbled_and_not_taken(request: ReadRequest, data: st.DataObject) -> None:
    whole = bytearray(sent(request, answer_to(request, fill=0)))
    place = data.draw(st.integers(3, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))

    assert find_answer(bytes(whole), {request.unit: request}) is None
    assert garbled(bytes(whole), request)


@given(UNITS, st.integers(1, 125), st.integers(0, 255), st.data())
def test_a_converters_echo_of_a_request_is_no_garbled_answer_though_it_begins_as_one(
    unit: int, count: int, low: int, data: st.DataObject
) -> None:
    """The high byte of the address stands where an answer has its length: 2 for register 512, read alone."""
    request = read_request(unit, Table.HOLDING, 2 * count << 8 | low, count)
    echo = frame(request)
    answer = sent(request, answer_to(request))
    part = (echo + answer)[: data.draw(st.integers(0, len(echo) + len(answer) - 1))]

    assert not garbled(part, request)
    assert garbled(echo + answer[:-1] + bytes([answer[-1] ^ 1]), request)


@given(REQUESTS, REQUESTS)
def test_an_answer_of_another_unit_or_function_is_not_taken(request: ReadRequest, other: ReadRequest) -> None:
    assume((request.unit, request.function) != (other.unit, other.function))
    # Bytes of an answer may by chance be a frame in themselves; these are all alike.
    assert find_answer(sent(other, answer_to(other)), {request.unit: request}) is None


@given(REQUESTS)
def test_a_refusal_is_found_as_well(request: ReadRequest) -> None:
    refusal = bytes([request.function | 0x80, 2])

    assert find_answer(sent(request, refusal), {request.unit: request}) == (request.unit, refusal, 5)


@given(REQUESTS)
def test_other_requests_have_answers_of_other_lengths_at_the_same_place(request: ReadRequest) -> None:
    others = list(request.others())

    assert others
    assert all(other.size != request.size and other.start == request.start for other in others)


def test_a_unit_that_owes_an_answer_does_so_until_it_is_clear_or_long_past() -> None:
    debts = Debts(lasting_s=10.0)
    request, other = read_request(1, Table.HOLDING, 0, 2), read_request(1, Table.HOLDING, 0, 3)
    debts.add(request, 100.0)

    assert debts.owes(request, 105.0)
    assert not debts.owes(other, 105.0), "its answer has another length"
    assert not debts.owes(read_request(2, Table.HOLDING, 0, 2), 105.0)
    assert not debts.owes(request, 110.0)
    debts.clear(1)
    assert not debts.any_of(1, 105.0)


def test_a_refusal_ends_what_the_unit_has_owed_longest_and_nothing_else() -> None:
    debts = Debts(lasting_s=10.0)
    first, second = (read_request(1, Table.HOLDING, 0, count) for count in (2, 3))
    debts.add(first, 100.0)
    debts.add(second, 101.0)
    debts.add(first, 102.0)  # asked again: now it is the latest

    debts.refused(1)

    assert not debts.owes(second, 103.0)
    assert debts.owes(first, 103.0)
    debts.refused(1)
    debts.refused(1)
    assert not debts.any_of(1, 103.0)
