"""Whether the recorder has everything, and the database takes what the recorder gives it."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from contracts.codec import ContractError
from contracts.topic import TopicError
from contracts.v1.audit import AuditStreams
from contracts.v1.service import SERVICE, ServiceStatus
from plugins.api.document import DocumentError
from services.cli.account import Terms
from services.cli.audit import AnswerMissing, Answers, ask_audit, audited_accounts
from services.cli.connection import ConnectionFailed
from services.cli.doctor.finding import Finding, State
from services.cli.doctor.sight import Sight
from services.cli.site import Site
from services.runtime.bus.bus import BusError
from services.runtime.mqtt.delivery import PublishRefused


@dataclass(frozen=True, slots=True)
class Completeness:
    """Of each recorder that is there: see `dinrail recorder audit`."""

    name: ClassVar[str] = "recorders"

    site: Site
    sight: Sight

    def findings(self) -> Iterator[Finding]:
        """What is missing, lost or set aside, or that nothing is."""
        for seen, state in self.sight.of(SERVICE):
            if seen.levels["service"] == "recorder" and state.state is ServiceStatus.ONLINE:
                yield from self._of(state.instance)

    def _of(self, recorder: str) -> Iterator[Finding]:
        try:
            answers = asyncio.run(ask_audit(self.site.folder, recorder, AuditStreams()))
        except PublishRefused as error:
            text = f"recorder {recorder}: not audited, for this account may not ask every service: {error}"
            yield Finding(State.WARN, f"{text}; ask without --as, or as a user who sees the whole site")
            return
        except (ConnectionFailed, DocumentError, BusError, ContractError, TopicError, AnswerMissing) as error:
            yield Finding(State.FAIL, f"recorder {recorder} does not tell what it has: {error}")
            return
        total = Terms()
        for terms in audited_accounts(answers, to_now=True).values():
            total.add(terms)
        found = [*_silent(answers), *_lacking(recorder, total), *_set_aside(recorder, answers)]
        yield from found or [
            Finding(State.OK, f"recorder {recorder}: of {total.produced} messages none is missing, lost or set aside")
        ]


def _silent(answers: Answers) -> Iterator[Finding]:
    if answers.silent:
        told = "; ".join(f"{service}: {said}" for service, said in sorted(answers.silent.items()))
        yield Finding(
            State.WARN,
            f"what some services have in their journals is not known, so that more may be missing ({told}): is each of "
            "them there, and does it work? Its log says more; of one that is gone for good see `dinrail recorder audit "
            "--without NAME`",
        )


def _lacking(recorder: str, total: Terms) -> Iterator[Finding]:
    missing = total.missing + total.unsettled
    if missing:
        yield Finding(
            State.FAIL,
            f"recorder {recorder}: {missing} messages are missing: `dinrail recorder audit` names them; an owner that "
            "is offline may still have them in its journal: start it",
        )
    if total.lost:
        told = _counts(total.lost)
        yield Finding(
            State.WARN,
            f"recorder {recorder}: {total.lost.total()} messages are lost for good ({told}): docs/no-loss.md tells how "
            "each reason is kept from coming again",
        )


def _set_aside(recorder: str, answers: Answers) -> Iterator[Finding]:
    """`refused` are values that the database rejects; `contract` are messages that nobody can read."""
    if answers.letters:
        state = State.FAIL if "refused" in answers.letters else State.WARN
        what = "the database rejects points" if state is State.FAIL else "messages break their contract"
        yield Finding(
            state,
            f"recorder {recorder}: {what}: {_counts(answers.letters)} set aside; `dinrail recorder deadletters` says "
            "why, --retry puts them back once that is mended, --delete throws them away",
        )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
