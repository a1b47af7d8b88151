"""Dead letters that are tried again: they go the way that messages come, past the marks if these have them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from contracts.codec import ContractError
from services.recorder.spool.admission import Admission, admit
from services.recorder.spool.deadletters import DeadLetter, KeptLetter
from services.recorder.spool.frames import FrameReader, Spooled
from services.recorder.spool.marks import StreamMarks
from services.runtime.gaps import Gaps, StreamKey


@dataclass(slots=True)
class Readmission:
    """What becomes of letters. admission: to be committed. back: the ids of those in it; refused: how many are not."""

    admission: Admission = field(default_factory=Admission)
    back: list[int] = field(default_factory=list)
    refused: int = 0


def readmit(
    letters: Iterable[KeptLetter], known: Mapping[StreamKey, StreamMarks], gaps: Gaps, *, site: str
) -> Readmission:
    """What to do with letters that are tried again, given the marks so far.

    One whose number is had is the one that has it: the marks know it, and the history does not.
    """
    given = Readmission()
    marks = dict(known)
    reader = FrameReader()
    for one in letters:
        if not _keeps_its_contract(one.letter, reader):
            given.refused += 1
            continue
        admission = admit([one.letter], marks, gaps, site=site)
        if admission.duplicates:
            admission = admit([one.letter], {}, Gaps(), site=site)
            admission.marks.clear()
            admission.announced.clear()
        if admission.dead:
            given.refused += 1
            continue
        for stream, epochs in admission.marks.items():
            marks[stream] = {**marks.get(stream, {}), **epochs}
            given.admission.marks.setdefault(stream, {}).update(epochs)
        given.admission.kept += admission.kept
        given.admission.events += admission.events
        given.admission.bytes += admission.bytes
        given.back.append(one.id)
    return given


def _keeps_its_contract(letter: DeadLetter, reader: FrameReader) -> bool:
    """Of a frame, its values too: the writer would set it aside again."""
    if "/frame/" not in letter.topic:
        return True  # what else it has to keep, admit() looks at
    try:
        reader.read(Spooled(0, "", "", letter.topic, letter.payload))
    except ContractError:
        return False
    return True
