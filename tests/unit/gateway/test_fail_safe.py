"""When a fail-safe value is due: never while who wrote last goes on, always after, whatever else happens."""

import math

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.fail_safe import FIRST_RETRY_S, LONGEST_RETRY_S, FailSafes

PUMP = ("pump", "speed")


@given(st.lists(st.tuples(st.sampled_from(["anna", "orchestrator"]), st.floats(0.001, 20)), min_size=1))
def test_a_value_is_due_exactly_when_the_last_write_is_too_long_ago(writes):
    fail_safes, now = FailSafes(), 0.0
    for user, waited in writes:
        now += waited
        fail_safes.arm(PUMP, user=user, after_s=10.0, now=now)

    assert fail_safes.next_due == now + 10
    assert not list(fail_safes.take_due(now + 9.999))
    ((place, armed),) = fail_safes.take_due(now + 10)
    assert (place, armed.user, armed.why) == (PUMP, writes[-1][0], "silence")


def test_the_death_of_a_service_makes_its_tags_due_and_no_others():
    fail_safes = FailSafes()
    fail_safes.arm(PUMP, user="orchestrator", after_s=3600, now=0)
    fail_safes.arm(("pump", "open"), user="anna", after_s=3600, now=0)

    fail_safes.gone("orchestrator", 5.0)

    assert [(place, armed.why) for place, armed in fail_safes.take_due(5.0)] == [(PUMP, "offline")]


def test_what_cannot_be_written_is_tried_again_after_growing_waits():
    fail_safes, now, waits = FailSafes(), 0.0, []
    fail_safes.arm(PUMP, user="anna", after_s=1, now=now)
    for _ in range(8):
        before, now = now, fail_safes.next_due
        waits.append(now - before)
        ((place, armed),) = fail_safes.take_due(now)
        assert not list(fail_safes.take_due(now)), "it is being written"
        fail_safes.put_off(place, armed, now)

    assert waits == [1, FIRST_RETRY_S, 2, 4, 8, 16, 32, LONGEST_RETRY_S]


def test_a_write_that_comes_meanwhile_begins_the_watch_anew():
    fail_safes = FailSafes()
    assert fail_safes.arm(PUMP, user="anna", after_s=1, now=0)
    ((place, armed),) = fail_safes.take_due(1)
    assert not fail_safes.arm(PUMP, user="anna", after_s=1, now=1.5)
    fail_safes.settle(place, armed)
    fail_safes.put_off(place, armed, 1.6)

    assert fail_safes.next_due == 2.5
    ((place, armed),) = fail_safes.take_due(2.5)
    fail_safes.settle(place, armed)
    assert fail_safes.next_due == math.inf
    assert fail_safes.users == {}
