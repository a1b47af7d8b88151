"""`dinrail recorder deadletters`: what a recorder has set aside, why, and a second try for it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from contracts.acl import ENGINEER
from contracts.v1.command import Command
from contracts.v1.dead_letter import (
    DISCARD_LETTERS,
    LIST_LETTERS,
    MOST_LETTERS,
    RETRY_LETTERS,
    Letter,
    LetterChoice,
    LettersDiscarded,
    LettersFound,
    LettersRetried,
    ListLetters,
)
from services.cli import asking
from services.cli.options import HERE, AsJson, Folder, fail
from services.cli.table import clipped, print_table

_WIDEST = 70

R = TypeVar("R", bound=BaseModel)
Page = TypeVar("Page", LettersFound, LettersRetried, LettersDiscarded)
Asked = TypeVar("Asked", bound=LetterChoice)
HINT = "is a recorder running? --recorder is its name"

Letters = Annotated[list[int] | None, typer.Argument(help="Numbers of letters, shown whole; without any, all.", min=0)]


def deadletters(  # noqa: PLR0917 - typer's options
    letters: Letters = None,
    reason: Annotated[str | None, typer.Option(help="Only those with this reason, such as refused.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Letters to show at the most.")] = 50,
    count: Annotated[bool, typer.Option("--count", help="Only how many there are, by reason.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Put them back to where they came from.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Throw them away.")] = False,
    recorder: Annotated[str, typer.Option(help="The recorder that is asked.")] = "recorder",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what the recorder has set aside, and why; try it again; throw it away."""
    if retry + delete + count > 1:
        fail("one of --retry, --delete and --count at a time")
    box = _Box(folder, recorder, {"ids": letters or None, "reason": reason, "limit": MOST_LETTERS})
    if count:
        _counted(box.first().counts, reason, as_json=as_json)
    elif retry:
        box.retry()
    elif delete:
        box.discard()
    else:
        found, held = box.some(limit, content=bool(letters) or as_json)
        _print(found, reason, whole=bool(letters), as_json=as_json)
        if not letters and len(found) < held:
            typer.echo(f"there are {held - len(found)} more: --limit {held} shows all", err=True)
        gone = sorted({*(letters or ())} - {one.id for one in found}) if len(found) < limit else []
        if gone:
            typer.echo(f"no letter {', '.join(map(str, gone))}: put back, thrown away, or never there", err=True)
            raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Box:
    """A recorder's dead letters. chosen: see LetterChoice."""

    folder: Path
    recorder: str
    chosen: dict[str, object]

    def first(self) -> LettersFound:
        """How many there are, and the last one's number."""
        return self._ask(LIST_LETTERS, ListLetters(limit=1))

    def some(self, most: int, *, content: bool) -> tuple[list[Letter], int]:
        """So many of them at the most, and how many there are of this reason, or of all, whatever their numbers."""
        found: list[Letter] = []
        held = 0
        for page in self._pages(LIST_LETTERS, limit=min(most, MOST_LETTERS if not content else 100), content=content):
            found += page.letters
            held = sum(_of(page.counts, self.chosen["reason"]).values())
            if len(found) >= most:
                break
        return found[:most], held

    def retry(self) -> None:
        """Tells how many were put back; ends the program with 1 if some were not."""
        given = [*self._pages(RETRY_LETTERS, to=self.first().last)]
        typer.echo(f"{sum(page.retried for page in given)} put back; what fails again becomes a new letter")
        refused = sum(page.refused for page in given)
        if refused:
            typer.echo(f"still break their contract, and stay: {refused}", err=True)
            raise typer.Exit(1)

    def discard(self) -> None:
        """Tells how many are gone."""
        thrown = sum(page.discarded for page in self._pages(DISCARD_LETTERS, to=self.first().last))
        typer.echo(f"{thrown} thrown away")

    def _pages(self, command: Command[Asked, Page], **more: object) -> Iterator[Page]:
        """Answer after answer, at least one, until there are no more."""
        given = self.chosen | more
        after: int | None = 0
        while after is not None:
            page = self._ask(command, asking.question(command.payload, {**given, "after": after}))
            yield page
            after = page.next

    def _ask(self, command: Command[Any, R], asked: LetterChoice) -> R:
        return asking.ask(self.folder, command, asked, account=ENGINEER.name, hint=HINT, id=self.recorder)


def _of(counts: Mapping[str, int], reason: object) -> dict[str, int]:
    """The counts of this reason; of None all."""
    return {name: count for name, count in counts.items() if reason in {None, name}}


def _counted(counts: Mapping[str, int], reason: str | None, *, as_json: bool) -> None:
    chosen = _of(counts, reason)
    if as_json:
        typer.echo(json.dumps({"counts": chosen}))
        return
    for name, count in chosen.items():
        typer.echo(f"{name}: {count}")
    if not chosen:
        typer.echo("none")


def _print(letters: list[Letter], reason: str | None, *, whole: bool, as_json: bool) -> None:
    if as_json:
        for letter in letters:
            typer.echo(letter.model_dump_json())
    elif whole:
        for letter in letters:
            typer.echo(f"{letter.id}  {_time(letter.t)}  {letter.reason}: {letter.detail}\n{letter.topic}")
            typer.echo(f"{letter.content}\n")
    else:
        table = Table("letter", "set aside", "reason", "topic", "detail", "bytes", box=None)
        for one in letters:
            cells = (str(one.id), _time(one.t), one.reason, one.topic, clipped(one.detail, _WIDEST), str(one.bytes))
            table.add_row(*map(Text, cells))
        print_table(table, nothing="nothing is set aside" + (f" with the reason {reason}" if reason else ""))


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
