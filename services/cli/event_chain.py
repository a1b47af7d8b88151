"""`dinrail events verify`: whether the stored events are those that were stored."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from contracts.acl import VIEWER
from contracts.v1.event_chain import MOST_ANCHORS, VERIFY_EVENTS, Anchor, ChainCheck, VerifyEvents
from services.cli import asking
from services.cli.counted import counted
from services.cli.events import HINT, Recorder
from services.cli.options import CANNOT, HERE, Folder, error_text, fail
from services.cli.when import time_text
from services.recorder.events.verification import EventVerifier
from services.recorder.layout import LAYOUT
from services.runtime.sqlite_file import one_moment

ANSWER_S = 30.0
"""How long one piece may take: the recorder does its own work first."""

MOST_FAULTS = 1000
"""After so many the check ends: somebody has changed more than rows."""

_DAMAGE = (sqlite3.Error, UnicodeDecodeError)
"""The second where what SQLite tells of the damage holds a piece of it."""

Anchors = Annotated[
    list[str] | None,
    typer.Option("--anchor", help="NUMBER:LINK as an earlier check printed it; repeat it.", metavar="NUMBER:LINK"),
]


def verify_events(
    anchor: Anchors = None,
    anchors: Annotated[
        Path | None, typer.Option(help="A file that `recorder.anchors` named: its lines are anchors.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Check this recorder.db itself, such as a copy: no recorder is asked.")
    ] = None,
    recorder: Recorder = "recorder",
    folder: Folder = HERE,
) -> None:
    """Check the chain of the stored events: finds every row that was changed, removed or put in; ends then with 1.

    The last line is the chain's head. Keep it elsewhere: given as --anchor later, it shows a chain that was cut off or
    written anew as a whole.
    """
    given = [_anchor(text) for text in anchor or ()]
    kept = [] if anchors is None else _kept(anchors)[-(MOST_ANCHORS - len(given)) :]
    look = _of_file(file) if file is not None else _of_recorder(folder, recorder)
    checks = _checked(look, [*given, *kept])
    faults = [fault for check in checks for fault in check.faults]
    for fault in faults:
        typer.echo(f"{fault.kind}: {fault.text}")
    _sum_up(checks, faults=len(faults))
    if faults:
        raise typer.Exit(1)
    # Those of a file reach back further than retention leaves them: its later ones are what counts.
    if unknown := [one.number for one in given if one.number in checks[0].unknown]:
        fail(f"anchor {unknown[0]}: retention has removed that delivery since; give one of a later check too")


def _checked(look: Callable[[VerifyEvents], ChainCheck], anchors: Sequence[Anchor]) -> Sequence[ChainCheck]:
    """Answer after answer, until all is checked or MOST_FAULTS are found."""
    checks: list[ChainCheck] = []
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("deliveries", total=None)
        after = None
        while (after is not None or not checks) and sum(len(check.faults) for check in checks) < MOST_FAULTS:
            check = look(VerifyEvents(anchors=list(anchors) if after is None else [], after=after))
            checks.append(check)
            if check.number:
                progress.update(task, completed=check.number, total=check.head.number if check.head else None)
            after = check.next
    return checks


def _of_recorder(folder: Path, recorder: str) -> Callable[[VerifyEvents], ChainCheck]:
    def look(asked: VerifyEvents) -> ChainCheck:
        """Asks the recorder for a piece."""
        try:
            return asking.ask(
                folder, VERIFY_EVENTS, asked, account=VIEWER.name, timeout_s=ANSWER_S, hint=HINT, id=recorder
            )
        except typer.Exit:  # nothing was checked: 1 would say that a row was changed
            raise typer.Exit(CANNOT) from None

    return look


def _of_file(path: Path) -> Callable[[VerifyEvents], ChainCheck]:
    if not path.is_file():
        fail(f"{path}: there is no such file; name a recorder.db")
    verifier = EventVerifier(path)

    def look(asked: VerifyEvents) -> ChainCheck:
        """Checks a piece here."""
        try:
            return verifier.verify(asked)
        except _DAMAGE as error:
            fail(f"{path}: damaged: {error}")

    try:
        with one_moment(path) as database:
            (layout,) = database.execute("PRAGMA user_version").fetchone()
    except _DAMAGE as error:
        fail(f"{path}: {error}")
    if layout != LAYOUT:
        fail(f"{path} has layout {layout}, this version of dinrail knows {LAYOUT}; start the recorder once")
    return look


def _anchor(text: str) -> Anchor:
    number, _, link = text.partition(":")
    try:
        return Anchor(number=int(number), link=link.strip().lower())
    except (ValueError, ValidationError):
        fail(f"{text}: no anchor; write NUMBER:LINK as a check prints it as its head")


def _kept(path: Path) -> list[Anchor]:
    """The anchors in a file, which has one as the last word of a line."""
    found: list[Anchor] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        fail(error_text(error))
    except UnicodeDecodeError:
        fail(f"{path}: not UTF-8; name the file of `recorder.anchors`")
    for at, line in enumerate(lines, 1):
        number, _, link = line.rpartition(" ")[2].partition(":")
        try:
            found.append(Anchor(number=int(number), link=link))
        except (ValueError, ValidationError):
            typer.echo(f"{path}, line {at}: no anchor; a power cut may have torn it", err=True)
    if not found:
        fail(f"{path} holds no anchor; name the file of `recorder.anchors`")
    return found


def _sum_up(checks: Sequence[ChainCheck], *, faults: int) -> None:
    for line in _removals(checks):
        typer.echo(line)
    deliveries, events = sum(check.checked for check in checks), sum(check.events for check in checks)
    found = counted(faults, "fault") if faults else "all as it was stored"
    if checks[-1].next is not None:
        typer.echo(f"not all was checked: there are more than {MOST_FAULTS} faults")
    typer.echo(f"{_held(events, deliveries)} of store {checks[0].store}: {found}")
    heads = [check.head for check in checks if check.head is not None]
    if heads:
        typer.echo(f"head {heads[0].number}:{heads[0].link}")


def _removals(checks: Sequence[ChainCheck]) -> Iterator[str]:
    removed = checks[0].removed
    if removed is not None:
        what = f"{_held(removed.events, removed.deliveries)}, up to number {removed.number}"
        yield f"removed by retention so far: {what}, last on {time_text(removed.t)}"


def _held(events: int, deliveries: int) -> str:
    return f"{counted(events, 'event')} in {counted(deliveries, 'delivery', 'deliveries')}"
