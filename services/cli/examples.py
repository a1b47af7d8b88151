"""Examples of every command: they stand below its help, and on the page docs/command-line.md."""

from collections.abc import Iterator, Mapping

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": ("dinrail init", "dinrail init --example plant --dir demo", "dinrail init --host edge1.plant.example"),
    "check": ("dinrail check site", "dinrail check site/devices/pump.yaml", "dinrail check site --json --answer 20ms"),
    "up": ("dinrail up", "dinrail up --example plant --dir demo --duration 60"),
    "watch": ("dinrail watch", "dinrail watch 'pump/*' --frames --json"),
    "tags show": ("dinrail tags", "dinrail tags 'pump/*'", "dinrail tags show --at 2h"),
    "tags export": ("dinrail tags export pump > pump.csv",),
    "tags import": ("dinrail tags import pump.csv --dry-run", "dinrail tags import pump.csv --device pump"),
    "read": ("dinrail read pump", "dinrail read pump fast"),
    "write": ("dinrail write pump speed 1200", "dinrail write pump offset -3"),
    "call": ("dinrail call servo home", "dinrail call servo move_to position=100"),
    "run": ("dinrail run batch", "dinrail run batch recipe=7 --no-wait"),
    "replay": ("dinrail replay r019aa3f46a7b7c3d9e215f3b0c9d8e7f",),
    "browse": (
        "dinrail browse opc.tcp://plc:4840",
        "dinrail browse opc.tcp://plc:4840 --out devices/plc.yaml --interval 500ms",
    ),
    "modbus scan": (
        "dinrail modbus scan 192.168.0.10",
        "dinrail modbus scan 192.168.0.10 --unit 5 --registers holding:0-60 --registers coil:0-15",
        "dinrail modbus scan --serial /dev/ttyUSB0 --baud 9600 --units 1-20",
    ),
    "history": ("dinrail history pump/speed --since 1h", "dinrail history 'pump/*' --since 1d --every 10m --agg mean"),
    "doctor": ("dinrail doctor", "dinrail doctor --dir site --json", "dinrail doctor --strict"),
    "backup": ("dinrail backup plant.tar.gz", "dinrail backup plant.tar.gz --no-secrets"),
    "restore": ("dinrail restore plant.tar.gz --dir site", "dinrail restore plant.tar.gz --verify"),
    "device list": ("dinrail device list",),
    "device put": ("dinrail device put pump.yaml", "dinrail device put pump.yaml --probe 5s"),
    "device delete": ("dinrail device delete pump",),
    "device enable": ("dinrail device enable pump",),
    "device disable": ("dinrail device disable pump",),
    "device reload-driver": ("dinrail device reload-driver modbus",),
    "pipeline list": ("dinrail pipeline list",),
    "pipeline show": ("dinrail pipeline show tank-watch", "dinrail pipeline show tank-watch --version 2"),
    "pipeline save": ("dinrail pipeline save tank.yaml", "dinrail pipeline save tank.yaml --shadow"),
    "pipeline validate": ("dinrail pipeline validate tank.yaml",),
    "pipeline delete": ("dinrail pipeline delete tank-watch",),
    "pipeline versions": ("dinrail pipeline versions tank-watch",),
    "pipeline rollback": ("dinrail pipeline rollback tank-watch 2",),
    "pipeline diff": ("dinrail pipeline diff tank-watch",),
    "pipeline runs": ("dinrail pipeline runs", "dinrail pipeline runs tank-watch --state failed"),
    "pipeline status": ("dinrail pipeline status r019aa3f46a7b7c3d9e215f3b0c9d8e7f",),
    "pipeline cancel": ("dinrail pipeline cancel r019aa3f46a7b7c3d9e215f3b0c9d8e7f --reason 'wrong recipe'",),
    "alarm list": ("dinrail alarm list", "dinrail alarm list --all"),
    "alarm unshelve": ("dinrail alarm unshelve tank-high",),
    "alarm ack": ("dinrail --as anna alarm ack tank-high --comment 'valve is stuck'",),
    "alarm shelve": ("dinrail alarm shelve tank-high 2h --comment 'cleaning'",),
    "users add": ("dinrail users add anna operator --device pump --generate",),
    "users list": ("dinrail users list",),
    "users remove": ("dinrail users remove anna",),
    "users passwd": ("dinrail users passwd anna",),
    "users role": ("dinrail users role anna engineer",),
    "certs list": ("dinrail certs list",),
    "certs create": ("dinrail certs create --host edge1.plant.example --days 365",),
    "certs trust": ("dinrail certs trust opc.tcp://plc:4840", "dinrail certs trust plc.pem"),
    "events list": ("dinrail events list --since 2h", "dinrail events list --user anna --type write.done"),
    "events show": ("dinrail events show device pump",),
    "events replay": ("dinrail events replay device pump --at 2h",),
    "events verify": ("dinrail events verify", "dinrail events verify --file recorder.db"),
    "recorder audit": ("dinrail recorder audit", "dinrail recorder audit 'pump/*' --since 1d"),
    "recorder deadletters": (
        "dinrail recorder deadletters",
        "dinrail recorder deadletters --reason refused --retry",
    ),
    "contracts generate": ("dinrail contracts generate",),
    "contracts check": ("dinrail contracts check",),
    "contracts release": ("dinrail contracts release",),
}
"""By the command's words. A command without one fails tests/unit/cli/test_help.py."""


def illustrate(app: typer.Typer) -> None:
    """Puts the examples below each command's help."""
    for words, command in commands_of(app):
        if words in EXAMPLES:
            command.epilog = "\n\n".join(["Examples:", *(f"  {example}" for example in EXAMPLES[words])])


def commands_of(app: typer.Typer, above: str = "") -> Iterator[tuple[str, CommandInfo]]:
    """Each command with its words: `pipeline save`."""
    for command in app.registered_commands:
        name = command.name or get_command_name(command.callback.__name__ if command.callback else "")
        yield f"{above}{name}", command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands_of(group.typer_instance, f"{above}{group.name} ")
