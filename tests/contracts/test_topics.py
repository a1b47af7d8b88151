"""Topics are built and read back without loss, and nothing malformed becomes a topic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.topic import LEVEL_PATTERN, TopicError
from contracts.v1.tag import TAG
from contracts.v1.topics import TOPICS

levels = st.from_regex(LEVEL_PATTERN, fullmatch=True).filter(lambda text: text.isascii())


@given(st.sampled_from(TOPICS), st.data())
def test_parse_gives_back_the_levels_that_build_was_given(topic, data):
    given_levels = {name: data.draw(levels, label=name) for name in topic.levels}

    assert topic.parse(topic.build(**given_levels)) == given_levels


@given(st.sampled_from(TOPICS), st.data())
def test_no_topic_of_one_class_is_taken_for_another(topic, data):
    built = topic.build(**{name: data.draw(levels, label=name) for name in topic.levels})

    assert [other.name for other in TOPICS if other.parse(built) is not None] == [topic.name]


@given(st.text(max_size=80))
def test_a_level_outside_the_grammar_is_refused(text):
    well_formed = 1 <= len(text) <= 63 and text[0] in _FIRST and all(letter in _FIRST + "_-" for letter in text)

    if well_formed:
        assert TAG.build(site="plant", device=text, tag="level").split("/")[4] == text
    else:
        with pytest.raises(TopicError, match="device"):
            TAG.build(site="plant", device=text, tag="level")


_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize("bad", ["", "a/b", "+", "#", "a.b", "Pump", "-a", "a" * 64, "pümp", "a\x00", "a\n", "$sys"])
def test_these_levels_are_refused(bad):
    with pytest.raises(TopicError):
        TAG.build(site="plant", device=bad, tag="level")


def test_a_missing_level_is_named():
    with pytest.raises(TopicError, match="missing tag"):
        TAG.build(site="plant", device="pump")


def test_an_unknown_level_is_named_with_the_known_ones():
    with pytest.raises(TopicError, match=r"no level named devise; it has site, device, tag"):
        TAG.filter(site="plant", devise="pump")


def test_a_filter_has_a_plus_for_every_level_not_given():
    assert TAG.filter(site="plant") == "dinrail/v1/plant/tag/+/+"


def test_no_topic_is_both_leaf_and_parent():
    depths = {(topic.pattern.split("/")[0], len(topic.pattern.split("/"))) for topic in TOPICS}

    assert len({name for name, _ in depths}) == len(depths), "one class, one depth"


def test_nothing_but_state_is_retained_and_commands_never():
    assert {topic.name for topic in TOPICS if topic.retain} == {
        "STORED",
        "TAG",
        "DEVICE",
        "DEVICE_STATE",
        "SERVICE",
        "PLUGIN",
        "PIPELINE",
        "RUN",
        "ALARM",
        "POLICY",
    }
