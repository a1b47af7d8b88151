"""The commands of `dinrail`: what each is for, and where its code is, which is imported only once it is used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from services.cli.examples import illustrate


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is: in the module of services.cli a function or a typer app of that name.

    about: its help, as the list of commands tells it. settings: of its context, as typer takes them.
    """

    module: str
    name: str
    about: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self, command: str) -> Any:  # noqa: ANN401 - click's, which some versions of typer carry inside
        """The command itself, with its examples."""
        code = getattr(import_module(f"services.cli.{self.module}"), self.name)
        around = typer.Typer(add_completion=False)
        if isinstance(code, typer.Typer):
            around.add_typer(code, name=command)
        else:
            around.command(command, context_settings=dict(self.settings))(code)
        illustrate(around)
        made = get_command(around)
        return made.commands[command] if isinstance(made, TyperGroup) else made


COMMANDS: Mapping[str, Place] = {
    "init": Place(
        "init_command",
        "init",
        "Make a site: settings, device files, passwords, certificates, the broker's files."
        " What is there already stays.",
    ),
    "check": Place(
        "check_command",
        "check_path",
        "Check settings, devices and pipelines, without starting anything: every fault with its place and its mend; and"
        " compute what they will ask of buses, broker and disks.",
    ),
    "up": Place(
        "up_command",
        "up",
        "Run a whole site on this machine: broker, services and, for an example, its simulated machines.",
    ),
    "watch": Place("watch_command", "watch", "Show changes as they come, until Ctrl-C."),
    "tags": Place("tags_app", "tags_app", "Show last values (`tags PATTERN`); tags as a table (CSV) and back."),
    "read": Place("operate", "read", "Read a device now, not as it was last polled."),
    "write": Place(
        "operate",
        "write",
        "Write a set-point: checked, written once, read back.",
        {"ignore_unknown_options": True},  # a negative value is none
    ),
    "call": Place("operate", "call", "Run a function of a device to its end."),
    "run": Place("pipeline", "run", "Run a pipeline, and wait for what it gives."),
    "replay": Place(
        "retrospect",
        "replay",
        "Go through a recorded run again, sending nothing to any device; ends with 1 if it comes out otherwise.",
    ),
    "browse": Place(
        "browse_command", "browse_server", "Show what an OPC UA server offers, and make a device file of it."
    ),
    "modbus": Place("modbus", "modbus_app", "Modbus: look what there is on a line. Nothing is ever written."),
    "history": Place(
        "history",
        "history",
        "Show recorded values: each one, or summed up (--every, --agg). Ends with 1 if there are none.",
    ),
    "doctor": Place(
        "doctor.command",
        "doctor",
        "Say what is wrong with a running site, and how to mend it; exits with 1 if anything fails.",
    ),
    "backup": Place(
        "backup",
        "backup",
        "Copy a site into an archive, also while it runs: settings, devices, pipelines, users, journals and history.",
    ),
    "restore": Place(
        "restore",
        "restore",
        "Make a site of an archive, in a folder that is empty or not there yet; every file is checked on the way.",
    ),
    "device": Place("device", "device_app", "Add, change and remove devices while the gateway runs."),
    "pipeline": Place("pipeline_app", "pipeline_app", "Save, show and change pipelines while the orchestrator runs."),
    "alarm": Place("alarm", "alarm_app", "Show, acknowledge and shelve alarms."),
    "users": Place("users", "users_app", "Add, change and remove the people who may use a site."),
    "certs": Place("certs", "certs_app", "Certificates of OPC UA: this site's own, and whom it trusts."),
    "events": Place("events_app", "events_app", "Show what has happened, to what, by whom."),
    "recorder": Place("recorder", "recorder_app", "Show what a recorder keeps, and what it could not keep."),
    "contracts": Place("contracts", "contracts_app", "Generate and check the documents of the wire."),
}
"""In the order of their use: what is done first on a box stands first."""


class Commands(TyperGroup):
    """All commands by name and help; the code of one is imported when it is used, so that each starts quickly."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - whatever typer gives a group
        super().__init__(**given)
        for name, place in COMMANDS.items():
            self.add_command(TyperCommand(name, help=place.about))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - as above
        """Puts the command in that is used."""
        if args[0] in COMMANDS:
            self.add_command(COMMANDS[args[0]].load(args[0]))
        return super().resolve_command(ctx, args)
