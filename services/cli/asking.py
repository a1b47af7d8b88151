"""A command sent to a service that runs, with one of the accounts of people; its answer, or why there is none."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from contracts.codec import ContractError, json_path
from contracts.topic import LEVEL_PATTERN, TopicError
from contracts.v1.command import Command, ErrorCode, Failure
from contracts.v1.history import TAG_PATTERN as HISTORY_PATTERN
from contracts.v1.policy import TAG_PATTERN, Role
from plugins.api.document import DocumentError
from services.cli.connection import ConnectionFailed, access_as, connected
from services.cli.options import CANNOT, fail
from services.cli.site import Site
from services.runtime.bus.bus import BusError, PublishRefused
from services.runtime.mqtt.delivery import NOT_AUTHORIZED

ANSWER_S = 5.0
MOST_AGAIN = 100
"""So often a service may say that it has come further, and not to the end."""

_LETTERS = "a-z 0-9 _ -"
_MENDS = {
    f"^{LEVEL_PATTERN}$": f"cannot be a name; use 1 to 63 of {_LETTERS} and begin with a letter or digit",
    TAG_PATTERN: f"cannot be a pattern; write DEVICE/TAG of {_LETTERS}, with * and ? as in file names",
    HISTORY_PATTERN: f"cannot be a pattern; write DEVICE, TAG or DEVICE/TAG of {_LETTERS}, with * and ?",
}
"""By the pattern that a text does not match."""

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class NoAnswer(typer.Exit):
    """The program ends since nobody has answered: whether it was done is unknown."""


class _MayNot(Exception):
    """The broker has refused the command."""


class _Unanswered(Exception):
    """The service has refused, or, unless `answered`, said nothing."""

    def __init__(self, failure: Failure | None, *, answered: bool) -> None:
        self.failure = failure
        self.answered = answered


def question(model: type[P], asked: Mapping[str, object]) -> P:
    """What is asked, without what was not given; ends the program if it breaks the contract. asked: by field."""
    try:
        return model.model_validate({name: value for name, value in asked.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        mend = _MENDS.get(fault.get("ctx", {}).get("pattern", ""))
        told = f"{fault['input']!r} {mend}" if mend else fault["msg"].removeprefix("Value error, ")
        place = json_path(fault["loc"]).removeprefix("$").removeprefix(".")
        fail(f"{place}: {told}" if place else told)


def refusal_text(failure: Failure) -> str:
    """The failure as most commands tell it."""
    return f"{failure.code}: {failure.message}"


def ask(
    folder: Path,
    command: Command[Any, R],
    payload: BaseModel,
    *,
    account: str,
    timeout_s: float = ANSWER_S,
    hint: str = "",
    told: Callable[[Failure], str] = refusal_text,
    again: bool = False,
    **levels: str,
) -> R:
    """Sends the command and gives its result; ends the program with its error.

    hint: told if nobody answers. told: the failure's text. again: a service that answers `timeout` goes on from there
    when it is asked again.
    """
    found: list[R] = []

    def keep(result: R) -> None:
        """One answer is all."""
        found.append(result)

    ask_on(
        folder,
        command,
        payload,
        keep,
        account=account,
        timeout_s=timeout_s,
        hint=hint,
        told=told,
        again=again,
        **levels,
    )
    return found[0]


def ask_on(
    folder: Path,
    command: Command[Any, R],
    payload: BaseModel,
    following: Callable[[R], BaseModel | None],
    *,
    account: str,
    timeout_s: float = ANSWER_S,
    hint: str = "",
    told: Callable[[Failure], str] = refusal_text,
    again: bool = False,
    **levels: str,
) -> None:
    """As ask(), then again and again over the same connection. What nobody answers ends the program with CANNOT: it
    could not be asked, which is another thing than a no.

    following: is given each result, and gives what to ask next, or None. Ends the program with the first error.
    """
    talk = _talk(folder, command, payload, following, account=account, timeout_s=timeout_s, again=again, levels=levels)
    try:
        asyncio.run(talk)
    except (ConnectionFailed, DocumentError, BusError, ContractError, TopicError, _MayNot) as error:
        fail(str(error))
    except _Unanswered as unanswered:
        if unanswered.answered:
            typer.echo(told(unanswered.failure) if unanswered.failure else "refused", err=True)
            raise typer.Exit(1) from None
        failure = None if _only_asks(command) else unanswered.failure
        typer.echo(refusal_text(failure) if failure else f"no answer within {timeout_s:g} s", err=True)
        if hint:
            typer.echo(hint, err=True)
        raise NoAnswer(CANNOT) from None


async def _talk(
    folder: Path,
    command: Command[Any, R],
    payload: BaseModel,
    following: Callable[[R], BaseModel | None],
    *,
    account: str,
    timeout_s: float,
    again: bool,
    levels: dict[str, str],
) -> None:
    access = access_as(account, Site(folder))
    async with connected(access) as bus:
        asked: BaseModel | None = payload
        left = MOST_AGAIN if again else 0
        while asked is not None:
            try:
                outcome = await bus.request(command, asked, timeout_s=timeout_s, user=access.account, **levels)
            except PublishRefused as error:
                raise _MayNot(
                    _may_not(access.account, command) if error.reason == NOT_AUTHORIZED else str(error)
                ) from None
            if outcome.result is not None:
                asked = following(outcome.result)
            elif left and outcome.answered and outcome.error and outcome.error.code is ErrorCode.TIMEOUT:
                left -= 1
            else:
                raise _Unanswered(outcome.error, answered=outcome.answered)


def _only_asks(command: Command[Any, Any]) -> bool:
    """Whether it changes nothing, so that nobody has to wonder whether it was done."""
    return command.role is Role.VIEWER and not command.own


def _may_not(user: str, command: Command[Any, Any]) -> str:
    """The broker tells a topic, and not what is missing: the role, or a right to this device, tag or workspace."""
    what = f"forbidden: {user} may not do that: {command.target} {command.verb}"
    if command.role is None:
        return f"{what} is for services only"
    return (
        f"{what} takes the role {command.role} (or more), and rights that are not narrowed to other devices, tags or "
        f"workspaces; an admin sees and gives them: `dinrail users list`, `dinrail users role {user} {command.role}`"
    )
