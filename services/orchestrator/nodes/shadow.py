"""What a shadow run has in place of nodes that change something: what they would do is recorded, and not sent."""

from services.orchestrator.engine.executor import Work
from services.orchestrator.run.plan import Values


def held_back_write(work: Work) -> Values:
    """In place of a write: as if the device had taken the value."""
    value = work.inputs.get("value")
    return {"value": value, "read_back": value}


def held_back_call(_work: Work) -> Values:
    """In place of a call: what it would have given nobody knows."""
    return {}


def held_back_tag(work: Work) -> Values:
    """In place of a derived tag."""
    return {"value": work.inputs.get("value")}


class UnseenAlarms:
    """In place of the alarms: without delay, and seen by nobody."""

    def observe(self, *_: object, raised: bool, **__: object) -> bool:
        """See nodes.alarm.Alarms."""
        return raised
