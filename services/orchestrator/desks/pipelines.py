"""Where commands that concern definitions are answered."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from contracts.v1 import pipeline as wire
from plugins.api.clock import Clock
from services.orchestrator.desks.desk import answered, timely
from services.orchestrator.errors import RateLimited
from services.orchestrator.pipelines.cases import (
    DeletePipeline,
    RollbackPipeline,
    SaveOrder,
    SavePipeline,
    ShowPipelines,
    ValidatePipeline,
)
from services.orchestrator.pipelines.version import Version
from services.runtime.allowance import Allowance
from services.runtime.bus.bus import Bus, Delivery
from services.runtime.commands.book import CommandBook
from services.runtime.commands.replies import Encoded
from services.runtime.desk import Desk
from services.runtime.settings import Limits

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCases:
    """What the desk asks."""

    save: SavePipeline
    rollback: RollbackPipeline
    delete: DeletePipeline
    validate: ValidatePipeline
    show: ShowPipelines


class PipelineDesk(Desk):
    """Takes commands from its making on.

    check_open: raises Draining while the orchestrator stops: nothing is changed then, but what is asked is answered.
    """

    name = "pipeline_desk"

    def __init__(
        self,
        *,
        bus: Bus,
        book: CommandBook,
        cases: PipelineCases,
        limits: Limits,
        check_open: Callable[[], None],
        clock: Clock,
    ) -> None:
        super().__init__()
        self._bus = bus
        self._clock = clock
        self._lookups = Allowance(rate=limits.changes.rate, burst=limits.changes.burst)
        self._cases = cases
        self._check_open = check_open
        serve, changes = bus.serve, self._changes
        self.services = (
            serve(wire.SAVE_PIPELINE, changes(self._save), book=book),
            serve(wire.ROLLBACK_PIPELINE, changes(self._rollback), book=book),
            serve(wire.DELETE_PIPELINE, changes(self._delete), book=book),
            serve(wire.VALIDATE_PIPELINE, self._validate, anew=True),
            serve(wire.GET_PIPELINE, self._get, anew=True),
            serve(wire.LIST_PIPELINES, self._list, anew=True),
            serve(wire.LIST_VERSIONS, self._versions, anew=True, rate=limits.changes),
        )

    def _changes(self, handler: Callable[[Delivery[P]], Awaitable[R]]) -> Callable[[Delivery[P]], Awaitable[R]]:
        async def if_open(command: Delivery[P]) -> R:
            """Raises CommandFailed, what the handler raises."""
            with answered():
                self._check_open()
            return await handler(command)

        return timely(if_open, clock=self._clock)

    async def _save(self, command: Delivery[wire.SavePipeline]) -> wire.PipelineSaved:
        levels, asked = command.levels, command.payload
        order = SaveOrder(
            scope=levels["scope"],
            pipeline=levels["id"],
            text=asked.definition,
            user=levels["user"],
            rights=self._bus.gate.rights(wire.SAVE_PIPELINE, levels["user"]),
            expect_version=asked.expect_version,
            shadow=asked.shadow,
            since=self._bus.gate.since(levels["user"]),
        )
        with answered():
            return _saved(await self._cases.save.save(order))

    async def _rollback(self, command: Delivery[wire.RollbackPipeline]) -> wire.PipelineSaved:
        levels, asked = command.levels, command.payload
        with answered():
            version = await self._cases.rollback.rollback(
                levels["scope"],
                levels["id"],
                asked.version,
                user=levels["user"],
                rights=self._bus.gate.rights(wire.ROLLBACK_PIPELINE, levels["user"]),
                expect_version=asked.expect_version,
                since=self._bus.gate.since(levels["user"]),
            )
        return _saved(version)

    async def _delete(self, command: Delivery[wire.DeletePipeline]) -> wire.PipelineDeleted:
        levels, expected = command.levels, command.payload.expect_version
        with answered():
            gone = await self._cases.delete.delete(
                levels["scope"], levels["id"], user=levels["user"], expect_version=expected
            )
        return wire.PipelineDeleted(pipeline=gone.pipeline, version=gone.version)

    async def _validate(self, command: Delivery[wire.ValidatePipeline]) -> wire.Validation:
        levels = command.levels
        rights = self._bus.gate.rights(wire.VALIDATE_PIPELINE, levels["user"])
        text = command.payload.definition
        checked = await self._cases.validate.check(levels["scope"], levels["id"], text, rights=rights)
        return checked.validation

    async def _get(self, command: Delivery[wire.GetPipeline]) -> wire.PipelineInfo | Encoded[wire.PipelineInfo]:
        """An old version comes from the disk and is read anew, as seldom as one is changed."""
        levels, version = command.levels, command.payload.version
        with answered():
            if version is not None and (wait_s := self._lookups.spend(levels["user"], self._clock.monotonic())):
                message = f"{levels['user']} asks for old versions more than {self._lookups.rate:g} times a second"
                raise RateLimited(message, retry_after_s=wait_s)
            return await self._cases.show.get(levels["scope"], levels["id"], version)

    async def _list(self, command: Delivery[wire.ListPipelines]) -> Encoded[wire.PipelineList]:
        return self._cases.show.all(command.levels["scope"])

    async def _versions(self, command: Delivery[wire.ListVersions]) -> wire.PipelineVersions:
        levels = command.levels
        with answered():
            versions = await self._cases.show.versions(levels["scope"], levels["id"])
        return wire.PipelineVersions(pipeline=levels["id"], versions=versions)


def _saved(version: Version) -> wire.PipelineSaved:
    return wire.PipelineSaved(
        pipeline=version.pipeline, version=version.version, rev=version.rev, shadow=version.shadow or None
    )
