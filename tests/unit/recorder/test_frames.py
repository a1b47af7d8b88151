"""What the writer reads from the spool is a frame that keeps its contract, or a dead letter that says why not."""

import re

import pytest

from services.recorder.spool.frames import FrameReader, Spooled


def row(samples, at=1):
    payload = f'{{"epoch":1,"seq":1,"rev":"r","samples":{samples}}}'.encode()
    return Spooled(at, "plc", "fast", "dinrail/v1/test/frame/plc/fast", payload)


def test_a_large_integer_that_travelled_as_text_is_an_integer_again():
    one = FrameReader().read(row('[{"t":1,"v":{"x":"18446744073709551615","y":"7"},"big":["x"]}]'))

    assert one.frame.samples[0].v == {"x": 18446744073709551615, "y": "7"}
    assert one.values == 2


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        ("[{", r"\$\.samples\[0\]"),
        ('[{"t":1,"v":{"Not A Level":1}}]', r"\$\.samples\[0\]\.v: 'Not A Level' is no tag name"),
        ('[{"t":9007199254740992,"v":{}}]', r"\$\.samples\[0\]\.t"),
        ('[{"t":1,"v":{"x":1}},{"t":1,"v":{"x":1},"dt":{"x":-2}}]', r"\$\.samples\[1\]\.t"),
        ('[{"t":1,"v":{"x":"1e3"},"big":["x"]}]', r"\.big: 'x' holds no integer"),
        ('[{"t":1,"v":{"x":1.5},"big":["x"]}]', r"\.big: 'x' holds no integer"),
    ],
)
def test_a_broken_frame_is_set_aside_with_place_and_reason_and_the_others_are_read(samples, complaint):
    good = '[{"t":1,"v":{"x":1}}]'

    letters = []
    frames = FrameReader().read_all([row(good, 1), row(samples, 2), row(good, 3)], letters)

    assert len(list(frames)) == 2
    (letter,) = letters
    assert letter.reason == "contract"
    assert letter.payload == row(samples).payload
    assert re.search(complaint, letter.detail), letter.detail


def test_a_tag_in_big_without_a_value_stays_without():
    one = FrameReader().read(row('[{"t":1,"v":{"x":null},"q":{"x":{"q":0,"cause":"comm"}},"big":["x"]}]'))

    assert one.frame.samples[0].v == {"x": None}
