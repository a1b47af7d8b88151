"""A command sent to a service that runs, with one of the accounts of people; its answer, or why there is none."""

import asyncio
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import BaseModel

from contracts.codec import ContractError
from contracts.topic import TopicError
from contracts.v1.command import Command, ErrorCode
from plugins.api.document import DocumentError
from services.cli.connection import ConnectionFailed, access_as, connected
from services.cli.options import fail
from services.cli.site import Site
from services.runtime.bus.bus import BusError, Outcome

ANSWER_S = 5.0

R = TypeVar("R", bound=BaseModel)


def ask(
    folder: Path,
    command: Command[Any, R],
    payload: BaseModel,
    *,
    account: str,
    timeout_s: float = ANSWER_S,
    hint: str = "",
    **levels: str,
) -> R:
    """Sends the command and gives its result; ends the program with its error. hint: told if nobody answers."""
    try:
        outcome = asyncio.run(_request(folder, command, payload, account=account, timeout_s=timeout_s, levels=levels))
    except (ConnectionFailed, DocumentError, BusError, ContractError, TopicError) as error:
        fail(str(error))
    if outcome.result is None:
        failure = outcome.error
        typer.echo(f"{failure.code}: {failure.message}" if failure else "refused", err=True)
        if hint and failure and failure.code is ErrorCode.TIMEOUT:
            typer.echo(hint, err=True)
        raise typer.Exit(1)
    return outcome.result


async def _request(
    folder: Path,
    command: Command[Any, R],
    payload: BaseModel,
    *,
    account: str,
    timeout_s: float,
    levels: dict[str, str],
) -> Outcome[R]:
    access = access_as(account, Site(folder))
    async with connected(access) as bus:
        return await bus.request(command, payload, timeout_s=timeout_s, user=access.account, **levels)
