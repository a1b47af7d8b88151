"""How an alarm is told: on its topic and in events. Pure."""

from pydantic import JsonValue, TypeAdapter, ValidationError

from contracts.v1.alarm import Alarm
from contracts.v1.message import Value
from services.orchestrator.alarms.store import KeptAlarm

_VALUE: TypeAdapter[Value] = TypeAdapter(Value)


def shown(value: JsonValue) -> Value:
    """What stands beside the alarm of a value that may be anything."""
    try:
        return _VALUE.validate_python(value)
    except ValidationError:
        return None


def alarm_message(kept: KeptAlarm) -> Alarm:
    """The alarm as its topic has it."""
    spec, now = kept.spec, kept.condition
    return Alarm(
        alarm=spec.alarm,
        source=spec.source,
        scope=spec.scope,
        state=now.status,
        priority=spec.priority,
        since=now.since,
        text=spec.text,
        title=spec.title,
        acked_by=now.acked_by,
        acked_at=now.acked_at,
        shelved_until=now.shelved_until,
        shelved_by=now.shelved_by,
        value=kept.value,
        limit=spec.limit,
    )


def alarm_data(kept: KeptAlarm, comment: str) -> dict[str, JsonValue]:
    """What an event tells of the alarm."""
    data: dict[str, JsonValue] = {
        "source": kept.spec.source,
        "state": kept.condition.status.value,
        "priority": kept.spec.priority,
        "text": kept.spec.text,
        "value": kept.value,  # type: ignore[dict-item] # a list of numbers is a JSON value
        "limit": kept.spec.limit,  # type: ignore[dict-item]
        "comment": comment or None,
    }
    if kept.condition.shelved_until is not None:
        data["shelved_until"] = kept.condition.shelved_until
    return {name: value for name, value in data.items() if value is not None}
