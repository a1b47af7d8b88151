"""The answers to commands as bytes: what the verb gave is encoded once, in its place in the reply."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from contracts.codec import ContractError, check_size, encode
from contracts.v1.command import ErrorCode, Failure, Reply

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Encoded(Generic[R]):
    """A verb's result as JSON, made once for all who ask for it."""

    data: bytes

    @classmethod
    def of(cls, result: R) -> "Encoded[R]":
        """The result, encoded."""
        return cls(result.model_dump_json().encode())


def encode_done(result: R | Encoded[R], *, topic: str) -> bytes:
    """The reply to a command that was done: contracts' Reply. topic: the command's.

    One that is longer than the bus carries is a reply that says so.
    """
    encoded = result if isinstance(result, Encoded) else Encoded.of(result)
    data = b'{"ok":true,"result":%b}' % encoded.data
    try:
        check_size(data, topic=topic)
    except ContractError as error:
        return encode_failed(ErrorCode.INTERNAL, f"the answer cannot be sent: {error}", topic=topic)
    return data


def encode_failure(failure: Failure, *, topic: str) -> bytes:
    """The reply to a command that was not done. As encode_done()."""
    try:
        return encode(Reply(ok=False, error=failure), topic=topic)
    except ContractError as error:
        return encode_failed(ErrorCode.INTERNAL, f"the answer cannot be sent: {error}", topic=topic)


def encode_failed(code: ErrorCode, message: str, *, topic: str) -> bytes:
    """As encode_failure(), of a failure without details and with a message of ours."""
    return encode(Reply(ok=False, error=Failure(code=code, message=message)), topic=topic)
