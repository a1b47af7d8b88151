"""A bound on what is kept of a server's chunk (OPC 10000-6, 6.7.2) until the rest of it has come.

asyncua believes the length in a chunk's header, and copies all that has come with each packet that comes: whoever
announces gigabytes, or floods a line with something else than OPC UA, held up every other device.
"""

import asyncio

from asyncua import Client, ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.ua.ua_binary import uatcp_to_binary

CHUNK_BYTES = 1 << 20
"""No chunk may be longer, whatever the server says of itself. Servers send chunks of 64 KiB, node-opcua of up to 512,
and one may not heed what was asked for: this is wide enough for those, and what has come is still quick to copy."""
MESSAGE_BYTES = 64 << 20
"""No answer of a plant is larger, in however many chunks; a server that goes on and on is broken off."""


def refuse_long_chunks(client: Client) -> None:
    """From now on the client's connections ask for chunks of CHUNK_BYTES, and are broken off by a longer one."""
    make = client.uaclient._make_protocol  # noqa: SLF001  asyncua has no other way to it

    def made() -> UASocketProtocol:
        """asyncua's own protocol with both methods replaced: the client makes one for each of its connections."""
        protocol = make()
        take = protocol.data_received

        def data_received(data: bytes) -> None:
            """Looks, after asyncua has taken what is whole, at how much it keeps: its rest grows with each packet."""
            take(data)
            most = min(protocol._connection._limits.max_recv_buffer, CHUNK_BYTES)  # noqa: SLF001  likewise
            if protocol.receive_buffer and len(protocol.receive_buffer) > most and protocol.transport is not None:
                protocol.transport.abort()
                protocol.receive_buffer = None  # The protocol itself is kept by its own cycle, until a collection.

        async def send_hello(url: str, max_messagesize: int = 0, max_chunkcount: int = 0) -> ua.Acknowledge:
            """See _send_hello(), which needs the protocol; the names of the arguments are asyncua's."""
            return await _send_hello(protocol, url, max_messagesize, max_chunkcount)

        protocol.data_received = data_received  # type: ignore[method-assign]
        protocol.send_hello = send_hello  # type: ignore[method-assign]
        return protocol

    client.uaclient._make_protocol = made  # type: ignore[method-assign] # noqa: SLF001


async def _send_hello(protocol: UASocketProtocol, url: str, message_bytes: int, chunks: int) -> ua.Acknowledge:
    """asyncua's own asks for chunks of 2 GiB; a server may send no longer ones than asked (OPC 10000-6, 7.1.2.3)."""
    hello = ua.Hello(
        ReceiveBufferSize=ua.UInt32(CHUNK_BYTES),
        MaxMessageSize=ua.UInt32(message_bytes),
        MaxChunkCount=ua.UInt32(chunks),
        EndpointUrl=ua.String(url),
    )
    if protocol.transport is None:
        raise ConnectionError("Connection is not open")
    told: asyncio.Future[ua.Acknowledge] = asyncio.get_running_loop().create_future()
    protocol._callbackmap[0] = told  # noqa: SLF001  where asyncua looks for whom an Acknowledge is for
    protocol.transport.write(uatcp_to_binary(ua.MessageType.Hello, hello))  # type: ignore[arg-type]  # it is bytes
    async with asyncio.timeout(protocol.timeout):
        return await told
