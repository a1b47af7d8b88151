"""The inputs of a run: checked against what the pipeline takes, with its defaults. Pure."""

from collections.abc import Mapping

from pydantic import JsonValue

from plugins.api.ports import check_inputs
from services.orchestrator.errors import InvalidInputs
from services.orchestrator.run.plan import Plan


def filled_inputs(plan: Plan, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """All inputs by name, None where an optional one was not given. Raises InvalidInputs with every fault."""
    if not plan.inputs and not given:
        return {}
    filled = {name: port.default for name, port in plan.inputs.items()} | dict(given)
    faults = check_inputs(plan.inputs, filled)
    if faults:
        raise InvalidInputs(f"{plan.pipeline}: {'; '.join(faults)}")
    return filled
