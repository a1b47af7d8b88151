"""Bytes to message and back: UTF-8 JSON, with a bound on size."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

P = TypeVar("P", bound=BaseModel)

MAX_BYTES = 1 << 20


class ContractError(ValueError):
    """A payload does not keep its contract; the message names the topic and the place inside the JSON."""


def encode(payload: BaseModel, *, topic: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The payload as UTF-8 JSON. Raises ContractError beyond max_bytes: the broker would drop it in silence."""
    data = payload.model_dump_json().encode()
    check_size(data, topic=topic, max_bytes=max_bytes)
    return data


def decode(model: type[P], data: bytes, *, topic: str, max_bytes: int = MAX_BYTES) -> P:
    """The message in `data`. Raises ContractError that names the topic and the JSON path of every fault."""
    check_size(data, topic=topic, max_bytes=max_bytes)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        faults = "; ".join(f"{json_path(fault['loc'])}: {fault['msg']}" for fault in error.errors(include_url=False))
        raise ContractError(f"{topic}: {faults}") from None


def check_size(data: bytes, *, topic: str, max_bytes: int = MAX_BYTES) -> None:
    """Raises ContractError if the payload is longer than the bound."""
    if len(data) > max_bytes:
        raise ContractError(f"{topic}: {len(data)} bytes, over the bound of {max_bytes}")


def json_path(location: tuple[int | str, ...]) -> str:
    """A pydantic location as a JSON path: ("samples", 0, "t") is $.samples[0].t."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
