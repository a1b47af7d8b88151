"""Requests to an OPC UA server, whose answers come as bytes, and whose every failure is told as the device's."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

from asyncua import Client, ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from plugins.api.driver import DeviceError

T = TypeVar("T")

UNREADABLE = (struct.error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What asyncua's decoder raises where an answer is no OPC UA, by whatever its bytes make it stumble over."""
_OPEN = frozenset(
    {
        ua.StatusCodes.BadUnexpectedError,
        ua.StatusCodes.BadInternalError,
        ua.StatusCodes.BadCommunicationError,
        ua.StatusCodes.BadNoCommunication,
        ua.StatusCodes.BadTimeout,
        ua.StatusCodes.BadRequestTimeout,
        ua.StatusCodes.BadRequestInterrupted,
        ua.StatusCodes.BadRequestCancelledByClient,
        ua.StatusCodes.BadRequestCancelledByRequest,
        ua.StatusCodes.BadOperationAbandoned,
        ua.StatusCodes.BadResponseTooLarge,
        ua.StatusCodes.BadEncodingError,
        ua.StatusCodes.BadEncodingLimitsExceeded,
        ua.StatusCodes.BadShutdown,
        ua.StatusCodes.BadServerHalted,
        ua.StatusCodes.BadSessionClosed,
        ua.StatusCodes.BadSecureChannelClosed,
        ua.StatusCodes.BadConnectionClosed,
        ua.StatusCodes.BadTcpInternalError,
    }
)
"""With which a server says that something went wrong on the way to the machine or back, not that it has refused."""
_BUSY = frozenset(
    {ua.StatusCodes.BadServerTooBusy, ua.StatusCodes.BadTcpServerTooBusy, ua.StatusCodes.BadResourceUnavailable}
)
"""With which it refuses what it may take a moment later."""
FAREWELL_S = 1.0
"""How long a server is given for what we only ask of it out of politeness, when we leave."""


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """A deadline around calls into asyncua: raises TimeoutError when it is over.

    asyncio.timeout alone does not do: where an answer and the cancellation meet, asyncua raises a subclass of
    CancelledError of its own (wait_for2), which asyncio.timeout takes for somebody else's cancellation and lets pass.
    """
    async with asyncio.timeout(seconds):
        try:
            yield
        except asyncio.CancelledError as cancelled:
            raise asyncio.CancelledError from cancelled


@contextmanager
def device_errors(what: str) -> Iterator[None]:
    """Raises what asyncua and the socket raise as DeviceError; `what` was being done."""
    try:
        yield
    except UaStatusCodeError as error:
        raise DeviceError(f"{what}: {error}", cause="device", code=error.code) from error
    except TimeoutError as error:
        raise DeviceError(f"{what}: no answer in time") from error
    except (UaError, OSError, EOFError) as error:
        lost = isinstance(error, ConnectionError)
        raise DeviceError(f"{what}: {str(error) or type(error).__name__}", lost=lost) from error
    except UNREADABLE as error:
        told = str(error) or type(error).__name__
        raise DeviceError(f"{what}: an answer that cannot be read: {told}", cause="device") from error


@contextmanager
def effect_errors(what: str) -> Iterator[None]:
    """As device_errors, around what changes the machine: what the server answers has the cause of effect_cause()."""
    try:
        with device_errors(what):
            yield
    except DeviceError as error:
        cause = effect_cause(error.code)
        if error.cause == "device" and cause != "device":
            raise DeviceError(str(error), cause=cause, code=error.code) from error
        raise


def effect_cause(code: int | None) -> str:
    """What the answer says of what was to change the machine, by its status that is not good; None if unreadable.

    `device`: the server has refused it; `busy`: for now. `comm`: it may have been done all the same, as where no
    answer came: a server in front of a machine says BadTimeout of a write that the machine has not confirmed, and
    an uncertain status says so by itself.
    """
    if code is None or code >> 30 == 1 or code & 0xFFFF_0000 in _OPEN:
        return "comm"
    return "busy" if code & 0xFFFF_0000 in _BUSY else "device"


@asynccontextmanager
async def farewell(timeout_s: float) -> AsyncIterator[None]:
    """Around what a server is told when we leave: whatever becomes of it, we do not wait for long, and go.

    uvloop raises RuntimeError where connecting was cut short, since nobody has told asyncua that its socket is closed.
    """
    try:
        async with within(min(timeout_s, FAREWELL_S)):
            yield
    except (UaError, OSError, TimeoutError, RuntimeError, *UNREADABLE):
        return


async def ask(client: Client, request: object, *, timeout_s: float | None = None) -> Buffer:
    """The answer's bytes, its type and header included. Raises UaError, OSError or TimeoutError.

    timeout_s: None is the connection's own, 0 is none.
    """
    protocol = client.uaclient.protocol
    if protocol is None:
        raise ConnectionError("the connection is closed")
    return await protocol.send_request(request, timeout_s)


def decoded(kind: type[T], answer: Buffer) -> T:
    """The response of this kind. Raises UaStatusCodeError if it says that it is none, and any of UNREADABLE."""
    response: Any = struct_from_binary(kind, answer)
    response.ResponseHeader.ServiceResult.check()
    return cast("T", response)
