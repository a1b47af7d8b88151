"""`dinrail recorder audit`: proves that no message is missing, or says which are."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.table import Column, Table
from rich.text import Text

from contracts.acl import VIEWER
from contracts.codec import ContractError
from contracts.topic import TopicError
from contracts.v1.audit import (
    AUDIT_STREAMS,
    SHOW_JOURNAL,
    AuditedEpoch,
    AuditedStreams,
    AuditStreams,
    JournalEpoch,
    JournalShown,
    ShowJournal,
)
from contracts.v1.command import Command
from contracts.v1.event import EVENT_STREAM
from contracts.v1.service import SERVICE, ServiceState, ServiceStatus
from plugins.api.document import DocumentError
from services.cli.account import StreamName, Terms, accounts
from services.cli.connection import ConnectionFailed, access_as, connected
from services.cli.events import Since, Until
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.site import Site
from services.cli.table import console
from services.cli.when import stretch
from services.runtime.bus.bus import Bus, BusError, Delivery
from services.runtime.resend import EVENT_KIND

ANSWER_S = 10.0
"""A recorder with a long spool, or a gateway with a long journal, looks for a while."""
OWNERS = frozenset({"gateway", "orchestrator", "recorder", "identity"})
"""Services that have streams of their own; others too, if the recorder has one of theirs."""
MOST_NAMED = 10
"""Missing ranges that are printed; --json has all."""
_SILENCE = "does not answer"

Page = TypeVar("Page", AuditedStreams, JournalShown)


@dataclass(slots=True)
class Answers:
    """What was heard. silent: services that own streams, by instance, with what they said instead of an answer.

    letters, thrown: see AuditedStreams. gone: services that nobody waits for any more.
    """

    owned: list[JournalEpoch] = field(default_factory=list)
    audited: list[AuditedEpoch] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)
    letters: dict[str, int] = field(default_factory=dict)
    thrown: dict[str, int] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)

    @property
    def owners(self) -> set[str]:
        """Instances of whose events the recorder knows: each service that owns a stream has one of events."""
        return {one.owner for one in self.audited if (one.kind, one.stream) == (EVENT_KIND, EVENT_STREAM)}

    def let_go(self, instance: str) -> None:
        """Of its streams what the recorder has heard of is all there is. Ends the program if it has answered."""
        if self.silent.pop(instance, None) is None:
            known = ", ".join(sorted(self.silent)) or "all have answered"
            fail(f"--without {instance}: no service of this name keeps silent; those that do: {known}")
        self.gone.append(instance)


class AnswerMissing(Exception):
    """The service has not answered; the message says why."""


def audit(
    stream: Annotated[str, typer.Argument(help="OWNER or OWNER/STREAM, with * and ? as in file names.")] = "*",
    since: Since = None,
    until: Until = None,
    without: Annotated[list[str] | None, typer.Option(help="A service that is gone for good; repeat it.")] = None,
    recorder: Annotated[str, typer.Option(help="The recorder that is audited.")] = "recorder",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Count where every message of every stream is; ends with 1 if one is missing, or an owner does not answer."""
    first, end = stretch(since, until)
    asked = AuditStreams(since=first, until=end)
    try:
        answers = asyncio.run(ask_audit(folder, recorder, asked))
    except (ConnectionFailed, DocumentError, BusError, ContractError, TopicError, AnswerMissing) as error:
        fail(str(error))
    for instance in dict.fromkeys(without or ()):
        answers.let_go(instance)
    found = {
        name: terms
        for name, terms in audited_accounts(answers, to_now=asked.until is None).items()
        if fnmatchcase(name[1], stream) or fnmatchcase("/".join(name[1:]), stream)
    }
    if not found and not answers.silent:
        fail(f"no stream is called {stream}; without it, `dinrail recorder audit` names them all")
    total = Terms()
    for terms in found.values():
        total.add(terms)
    proved = total.proved and not answers.silent
    if as_json:
        _print_json(found, total, answers, proved=proved)
    else:
        console().print(audit_table(found, total))
        for line in (*_holes(found), *_remarks(total, answers, proved=proved)):
            typer.echo(line)
    if not proved:
        raise typer.Exit(1)


def audited_accounts(answers: Answers, *, to_now: bool) -> dict[StreamName, Terms]:
    """A stream for which nobody has answered is silent only if somebody has not answered at all."""
    answered = {(one.kind, one.owner, one.stream) for one in answers.owned}
    known = {(one.kind, one.owner, one.stream) for one in answers.audited}
    silent = {name: bool(answers.silent) for name in known - answered}
    return accounts(answers.owned, answers.audited, silent=silent, to_now=to_now)


async def ask_audit(folder: Path, recorder: str, asked: AuditStreams) -> Answers:
    """The owners first: what they produce meanwhile is under way. Raises AnswerMissing if the recorder is silent.

    The recorder knows of owners too, and when it has answered, all that the broker had retained is here.
    """
    present: dict[str, ServiceState] = {}
    others: dict[str, ServiceState] = {}
    access = access_as(VIEWER.name, Site(folder))

    async def see(delivery: Delivery[ServiceState]) -> None:
        """Who is there."""
        owner = delivery.levels["service"] in OWNERS
        (present if owner else others)[delivery.levels["instance"]] = delivery.payload

    answers = Answers()
    heard: set[str] = set()
    async with connected(access, lambda bus: bus.subscribe(SERVICE, see)) as bus:
        await bus.settled()
        while True:
            for instance in sorted({*present, *answers.owners} - heard):
                state = present.get(instance) or others.get(instance)
                await _hear(bus, answers, instance, state, user=access.account)
                heard.add(instance)
            answers.audited.clear()
            async for page in _pages(bus, AUDIT_STREAMS, asked, recorder, user=access.account):
                answers.audited += page.epochs
                answers.letters, answers.thrown = page.letters or {}, page.thrown or {}
            if heard >= {*present, *answers.owners}:
                return answers


async def _hear(bus: Bus, answers: Answers, instance: str, state: ServiceState | None, *, user: str) -> None:
    """One owner. state: as it has said last; None if the broker knows nothing of it."""
    if state is None or state.state is ServiceStatus.OFFLINE:
        answers.silent[instance] = "is offline" if state else "has streams here, but the broker does not know it"
        return
    try:
        async for page in _pages(bus, SHOW_JOURNAL, ShowJournal(), instance, user=user):
            answers.owned += page.epochs
    except AnswerMissing as error:
        answers.silent[instance] = str(error)


async def _pages(
    bus: Bus, command: Command[Any, Page], asked: BaseModel, instance: str, *, user: str
) -> AsyncIterator[Page]:
    """Answer after answer. Raises AnswerMissing."""
    after: str | None = None
    while True:
        question = asked.model_copy(update={"after": after})
        outcome = await bus.request(command, question, timeout_s=ANSWER_S, user=user, id=instance)
        if outcome.result is None:
            why = outcome.error.message if outcome.error else "refuses"
            raise AnswerMissing(f"{instance} {_SILENCE}: {why}")
        yield outcome.result
        after = outcome.result.next
        if after is None:
            return


def audit_table(found: Mapping[StreamName, Terms], total: Terms) -> Table:
    """A row for each stream, and the total."""
    numbers = ("produced", "in database", "in spool", "set aside", "in journal", "lost", "under way", "missing")
    table = Table(Column("stream", overflow="fold"), box=None, padding=(0, 1, 0, 0))
    for name in numbers:  # in two lines, so that on 80 columns a stream's name is folded, and no number cut
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=name != "lost")
    for (kind, owner, stream), terms in found.items():
        table.add_row(Text(f"{kind} {owner}/{stream}"), *_cells(terms))
    table.add_row(Text("total", style="bold"), *_cells(total))
    return table


def _cells(terms: Terms) -> list[Text]:
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(terms.lost.items())) or "0"
    counts = (terms.produced, terms.written, terms.spooled, terms.dead, terms.journal)
    missing = terms.missing + terms.unsettled
    style = "red" if missing else ""
    others = (Text(lost), Text(str(terms.under_way)), Text(str(missing), style=style))
    return [*(Text(str(one)) for one in counts), *others]


def _holes(found: Mapping[StreamName, Terms]) -> list[str]:
    """Where the first of what is missing is."""
    holes = [
        f"{kind} {owner}/{stream}: {first} to {last} of epoch {epoch}"
        for (kind, owner, stream), terms in found.items()
        for epoch, first, last in terms.places
    ]
    more = [f"and {len(holes) - MOST_NAMED} ranges more: see --json"] if len(holes) > MOST_NAMED else []
    return [f"missing: {hole}" for hole in holes[:MOST_NAMED]] + more


def _remarks(total: Terms, answers: Answers, *, proved: bool) -> list[str]:
    """What the table does not say."""
    lines = [f"{instance}: {why}; what it alone knows of counts as missing" for instance, why in answers.silent.items()]
    lines += [f"{one}: is gone; what it alone knew of is not counted" for one in answers.gone]
    for what, counts in (("are dead letters", answers.letters), ("were thrown away", answers.thrown)):
        if counts:
            lines.append(f"{', '.join(f'{count} {reason}' for reason, count in sorted(counts.items()))} {what}")
    if total.unheard:
        lines.append(f"{total.unheard} messages the recorder has not heard of belong to no time; leave out --until")
    if total.unsettled:
        lines.append(f"{total.unsettled} are stored but neither in the database, nor in the spool, nor set aside")
    held = (
        f"{total.produced} produced = {total.stored} stored + {total.journal} in journals + {total.lost.total()} lost"
    )
    if proved:
        return [*lines, f"{held}: nothing is missing"]
    under_way = f" + {total.under_way} under way (ask again)" if total.under_way else ""
    return [*lines, f"{held}{under_way} + {total.missing} missing: not proved"]


def _print_json(found: Mapping[StreamName, Terms], total: Terms, answers: Answers, *, proved: bool) -> None:
    streams = [
        {"kind": kind, "owner": owner, "stream": stream, **_told(terms), "missing_at": terms.places}
        for (kind, owner, stream), terms in found.items()
    ]
    said = {
        "proved": proved,
        "total": _told(total),
        "silent": answers.silent,
        "without": answers.gone,
        "streams": streams,
    }
    typer.echo(json.dumps({**said, "dead_letters": answers.letters, "thrown_away": answers.thrown}))


def _told(terms: Terms) -> dict[str, Any]:
    told = {one.name: getattr(terms, one.name) for one in fields(terms) if one.name != "places"}
    return {**told, "stored": terms.stored}
