"""What a recorder tells of gaps, losses, duplicates and a full spool, and how often."""

from services.recorder.completeness.incidents import MOST_NAMED, PERIOD_S, Incidents
from services.recorder.spool.marks import Missing
from services.runtime.gaps import StreamKey

FAST, SLOW = StreamKey("frame", "plc", "fast"), StreamKey("frame", "plc", "slow")
OWN = StreamKey("event", "recorder", "main")


def told(incidents, now_s, *missing):
    return [(one.type, one.data) for one in incidents.due(now_s, missing=lambda stream: stream in missing)]


def test_a_gap_is_told_at_once_and_again_when_it_is_mended():
    incidents = Incidents(own="recorder")
    incidents.found(FAST, Missing(7, 3, 5))

    stream = {"kind": "frame", "owner": "plc", "stream": "fast"}
    found = {"streams": 1, "messages": 3, "named": [{**stream, "epoch": 7, "first": 3, "last": 5}]}
    assert told(incidents, 0.0, FAST) == [("gap.found", found)]
    assert told(incidents, 1.0, FAST) == []
    assert told(incidents, 2.0) == [("gap.mended", {"streams": 1, "named": [stream]})]


def test_a_storm_of_gaps_makes_one_event_per_period_that_counts_them_all():
    incidents = Incidents(own="recorder")
    events = []
    for tick in range(200):
        for at in range(50):
            incidents.found(StreamKey("frame", f"plc{at}", "fast"), Missing(1, tick + 1, tick + 1))
        found = incidents.due(tick / 10, missing=lambda stream: True)
        events += [one for one in found if one.type == "gap.found"]

    assert len(events) == 2
    assert events[1].data["messages"] == 50 * PERIOD_S * 10
    assert events[1].data["streams"] == 50
    assert len(events[1].data["named"]) == MOST_NAMED


def test_losses_are_told_by_reason():
    incidents = Incidents(own="recorder")
    incidents.lost(FAST, 1, [(1, 2, "cap_age"), (5, 5, "damaged")])
    incidents.lost(SLOW, 1, [(9, 9, "cap_age")])

    ((kind, data),) = told(incidents, 0.0)
    assert (kind, data["messages"], data["reasons"]) == ("loss.booked", 4, {"cap_age": 3, "damaged": 1})


def test_a_gap_of_an_earlier_life_is_told_only_when_it_is_mended():
    incidents = Incidents(own="recorder")
    incidents.known([FAST])

    assert told(incidents, 0.0, FAST) == []
    assert [kind for kind, _ in told(incidents, 1.0)] == ["gap.mended"]


def test_duplicates_are_told_but_not_those_of_the_own_events_which_would_make_others():
    incidents = Incidents(own="recorder")
    incidents.repeated(OWN, 3)
    assert told(incidents, 0.0) == []
    incidents.repeated(FAST, 2)

    assert [(kind, data["messages"]) for kind, data in told(incidents, 1.0)] == [("duplicates.found", 2)]


def test_a_spool_that_is_full_again_and_again_is_one_event_until_it_has_had_room_for_a_while():
    incidents = Incidents(own="recorder")
    happened = []
    for tick in range(100):
        incidents.spool(full=tick % 2 == 0, now_s=float(tick) / 4)
        happened += told(incidents, tick / 4)
    happened += told(incidents, 30.0)
    happened += told(incidents, 40.0)

    assert [kind for kind, _ in happened] == ["spool.full"] * 3 + ["spool.full", "spool.room"]
    assert sum(data.get("times", 0) for _, data in happened) == 50
