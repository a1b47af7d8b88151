"""What a service imports at its start: most of the time until its first value goes there."""

import json
import subprocess
import sys

import pytest

from services.cli.commands import COMMANDS

WHOLE_WIRE = {"contracts.v1.topics", "contracts.v1.definition", "contracts.v1.pipeline", "contracts.v1.node"}


def imported_by(modules: str) -> set[str]:
    """The modules that a fresh interpreter holds once it has imported this one, or these."""
    program = f"import json, sys, {modules}; print(json.dumps(list(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(told.stdout))


@pytest.mark.parametrize("service", ["gateway", "recorder"])
def test_a_service_without_pipelines_imports_none_of_their_models(service: str) -> None:
    unneeded = WHOLE_WIRE | {"networkx", "asyncua", "pymodbus", "services.orchestrator"}
    assert imported_by(f"services.{service}.process") & unneeded == set()


def test_the_gateway_leaves_numpy_to_drivers_that_want_it() -> None:
    assert "numpy" not in imported_by("services.gateway.process")


def test_the_command_line_starts_where_no_service_is_installed() -> None:
    """Its image has the extra `cli` alone."""
    others = {"zstandard", "influxdb_client", "asyncua", "pymodbus", "numpy", "duckdb"}
    modules = ", ".join(sorted({f"services.cli.{place.module}" for place in COMMANDS.values()}))
    assert imported_by(modules) & others == set()


def test_the_list_of_commands_is_told_without_the_code_of_any_command() -> None:
    own = {"services.cli", *(f"services.cli.{one}" for one in ("main", "commands", "examples", "options", "person"))}
    ours = {one for one in imported_by("services.cli.main") if one.startswith(("contracts", "plugins.", "services."))}
    assert ours == own


def test_the_orchestrator_imports_no_list_of_all_topics() -> None:
    assert imported_by("services.orchestrator.process") & {"contracts.v1.topics", "contracts.acl", "numpy"} == set()


def test_the_models_of_messages_are_built_when_they_are_first_used() -> None:
    program = (
        "import services.gateway.process\n"
        "from contracts.v1.message import CommandMessage, Message\n"
        "models = [*Message.__subclasses__(), *CommandMessage.__subclasses__()]\n"
        "print(len(models), *(one.__name__ for one in models if one.__pydantic_complete__))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    count, *built = told.stdout.split()
    assert int(count) > 20
    assert built == []


def test_a_service_starts_without_rich_which_a_plugin_may_still_import() -> None:
    program = (
        "import json, sys, types\n"
        "from services.runtime.startup import start\n"
        "def main():\n"
        "    import services.gateway.process\n"
        "    print(json.dumps(list(sys.modules)))\n"
        "    import rich\n"
        "    return 0\n"
        "sys.modules['probe'] = types.SimpleNamespace(main=main)\n"
        "sys.exit(start('probe'))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    held = set(json.loads(told.stdout))
    assert "structlog" in held
    assert held & {"rich", "pygments", "attr"} == set()
