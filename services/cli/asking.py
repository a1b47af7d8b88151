"""A command sent to a service that runs, with one of the accounts of people; its answer, or why there is none."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from contracts.codec import ContractError, json_path
from contracts.topic import TopicError
from contracts.v1.command import Command, ErrorCode, Failure
from plugins.api.document import DocumentError
from services.cli.connection import ConnectionFailed, access_as, connected
from services.cli.options import fail
from services.cli.site import Site
from services.runtime.bus.bus import BusError

ANSWER_S = 5.0

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class _Unanswered(Exception):
    """The service has refused, or did not answer."""

    def __init__(self, failure: Failure | None) -> None:
        self.failure = failure


def question(model: type[P], asked: Mapping[str, object]) -> P:
    """What is asked, without what was not given; ends the program if it breaks the contract."""
    try:
        return model.model_validate({name: value for name, value in asked.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        fail(f"{json_path(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}")


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
    **levels: str,
) -> R:
    """Sends the command and gives its result; ends the program with its error.

    hint: told if nobody answers. told: the failure's text.
    """
    found: list[R] = []

    def keep(result: R) -> None:
        """One answer is all."""
        found.append(result)

    ask_on(folder, command, payload, keep, account=account, timeout_s=timeout_s, hint=hint, told=told, **levels)
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
    **levels: str,
) -> None:
    """As ask(), then again and again over the same connection.

    following: is given each result, and gives what to ask next, or None. Ends the program with the first error.
    """
    talk = _talk(folder, command, payload, following, account=account, timeout_s=timeout_s, levels=levels)
    try:
        asyncio.run(talk)
    except (ConnectionFailed, DocumentError, BusError, ContractError, TopicError) as error:
        fail(str(error))
    except _Unanswered as unanswered:
        _tell(unanswered.failure, hint, told)


def _tell(failure: Failure | None, hint: str, told: Callable[[Failure], str]) -> NoReturn:
    typer.echo(told(failure) if failure else "refused", err=True)
    if hint and failure and failure.code is ErrorCode.TIMEOUT:
        typer.echo(hint, err=True)
    raise typer.Exit(1)


async def _talk(
    folder: Path,
    command: Command[Any, R],
    payload: BaseModel,
    following: Callable[[R], BaseModel | None],
    *,
    account: str,
    timeout_s: float,
    levels: dict[str, str],
) -> None:
    access = access_as(account, Site(folder))
    async with connected(access) as bus:
        asked: BaseModel | None = payload
        while asked is not None:
            outcome = await bus.request(command, asked, timeout_s=timeout_s, user=access.account, **levels)
            if outcome.result is None:
                raise _Unanswered(outcome.error)
            asked = following(outcome.result)
