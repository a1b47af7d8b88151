"""What a recorder says of every number: each is in one place, also of letters that are tried again or thrown away."""

from pathlib import Path

import pytest

from contracts.codec import encode
from contracts.v1.audit import AuditedEpoch, AuditStreams, JournalEpoch
from contracts.v1.frame_codec import SampleStruct
from services.cli.account import Terms, accounts
from services.recorder.completeness import audit, settled
from services.recorder.completeness.audit import Audit
from services.recorder.embedded.store import EmbeddedStore
from services.recorder.spool.admission import Admission
from services.recorder.spool.deadletters import Choice, DeadLetter
from services.recorder.spool.marks import EpochMarks
from services.recorder.spool.readmission import readmit
from services.runtime.gaps import Gaps, StreamKey
from tests.recorder_rig import SITE, Message, Rig, message, rig

FAST = StreamKey("frame", "plc", "fast")
GOOD = [SampleStruct(t=1, v={"a": 1.0})]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorder.db"


def store() -> EmbeddedStore:
    return EmbeddedStore(batch_bytes=1 << 20, flush_s=3600, chunk_values=10)


def broken(seq: int) -> Message:
    """A frame whose values keep no contract, as the writer finds out."""
    return Message(message(seq).payload.replace(b'"samples":[]', b'"samples":7'))


def pages(path: Path, **asked: int) -> list[list[AuditedEpoch]]:
    """Answer after answer; each as long as a reply may be."""
    looked, found, after = Audit(path, site=SITE, store="any"), [], None
    while True:
        answer = looked.look(AuditStreams(after=after, **asked))
        encode(answer, topic="reply")
        found.append(answer.epochs)
        after = answer.next
        if after is None:
            return found


def terms(path: Path, given: int, **asked: int) -> Terms:
    """Of the stream, whose owner has made so many and holds none."""
    owned = [JournalEpoch(kind="frame", owner="plc", stream="fast", epoch=1, given=given, held=[], lost=[])]
    audited = [epoch for page in pages(path, **asked) for epoch in page]
    (found,) = accounts(owned, audited, silent={}, to_now=True).values()
    return found


async def chosen(recorder: Rig) -> list:
    return await recorder.database.transaction(lambda sql: recorder.letters.chosen(sql, Choice(most=10)))


async def test_what_is_tried_again_is_in_the_spool_though_it_was_settled_before(path):
    async with rig(path, store()) as recorder:
        await recorder.commit(message(1, GOOD), message(2, GOOD))
        await recorder.flush()

        def refuse(sql):
            """As a server does with a value of 1."""
            one = message(1, GOOD)
            recorder.letters.put(sql, [DeadLetter("refused", "", one.topic, one.payload)], now_us=1)

        await recorder.database.transaction(refuse)
        letters = await chosen(recorder)
        given = readmit(letters, recorder.spool.marks, Gaps(), site=SITE)
        await recorder.spool.commit(given.admission, also=lambda sql: recorder.letters.remove(sql, given.back))
        waiting = terms(path, 2)
        recorder.writer._stopping = False
        await recorder.flush()
        done = terms(path, 2)

    assert (waiting.written, waiting.spooled, waiting.unsettled, waiting.proved) == (1, 1, 0, True)
    assert (done.written, done.spooled, done.proved) == (2, 0, True)


async def test_what_was_set_aside_and_thrown_away_is_lost_and_says_so(path):
    async with rig(path, store()) as recorder:
        await recorder.commit(message(1, GOOD), broken(2), broken(3))
        await recorder.flush()
        kept = terms(path, 3)
        letters = await chosen(recorder)
        await recorder.database.transaction(lambda sql: recorder.letters.throw_away(sql, letters[:1]))
        answer = Audit(path, site=SITE, store="any").look(AuditStreams())

    assert (kept.written, kept.dead, kept.lost) == (1, 2, {})
    thrown = terms(path, 3)
    assert (thrown.written, thrown.dead, thrown.lost, thrown.proved) == (1, 1, {"thrown_away": 1}, True)
    assert (answer.letters, answer.thrown) == ({"contract": 1}, {"contract": 1})


async def test_letters_that_are_forgotten_since_there_are_too_many_are_lost_and_counted(path):
    async with rig(path, store(), most_letters=1000) as recorder:
        for seq in range(1, 41):
            await recorder.commit(broken(seq))
        await recorder.flush()
        letters = len(await recorder.dead())
        answer = Audit(path, site=SITE, store="any").look(AuditStreams())

    found = terms(path, 40)
    assert 0 < letters < 40
    assert (found.dead, found.lost, found.proved) == (letters, {"thrown_away": 40 - letters}, True)
    assert answer.thrown == {"contract": 40 - letters}


async def test_an_epoch_of_very_many_holes_comes_in_parts_that_say_all_of_it(path, monkeypatch):
    monkeypatch.setattr(audit, "MOST", 1000)
    holes = 5000
    have = tuple((at, at) for at in range(1, 2 * holes, 2))
    lost = tuple((at, at, "cap_bytes") for at in range(2, 2 * holes, 2) if at % 10)
    async with rig(path, store()) as recorder:
        await recorder.spool.commit(Admission(marks={FAST: {1: EpochMarks(1, have, None, lost)}}))
        await recorder.database.transaction(lambda sql: settled.book(sql, [(1, 1, first) for first, _ in have]))
        await recorder.commit(message(1, GOOD, epoch=2))

        found = terms(path, 2 * holes, since=0)

    assert found.produced == 2 * holes + 1
    assert (found.written, found.spooled, found.lost) == (holes, 1, {"cap_bytes": len(lost)})
    assert found.missing == holes - len(lost)
    assert found.places[:2] == [(1, 10, 10), (1, 20, 20)]
    assert len(pages(path)) > 5
