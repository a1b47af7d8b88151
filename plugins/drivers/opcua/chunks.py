"""A bound on what is kept of a server's chunk (OPC 10000-6, 6.7.2) until the rest of it has come.

asyncua believes the length in a chunk's header, and copies all that has come with each packet that comes: whoever
announces gigabytes, or floods a line with something else than OPC UA, held up every other device.
"""

from asyncua import Client
from asyncua.client.ua_client import UASocketProtocol

MESSAGE_BYTES = 64 << 20
"""No answer of a plant is larger; a server that goes on and on is broken off."""


def refuse_long_chunks(client: Client) -> None:
    """From now on the client's connections are broken off by a chunk that is longer than was agreed on."""
    make = client.uaclient._make_protocol  # noqa: SLF001  asyncua has no other way to it

    def made() -> UASocketProtocol:
        protocol = make()
        take = protocol.data_received

        def data_received(data: bytes) -> None:
            take(data)
            most = min(protocol._connection._limits.max_recv_buffer, MESSAGE_BYTES)  # noqa: SLF001  likewise
            if protocol.receive_buffer and len(protocol.receive_buffer) > most and protocol.transport is not None:
                protocol.transport.abort()

        protocol.data_received = data_received  # type: ignore[method-assign]
        return protocol

    client.uaclient._make_protocol = made  # type: ignore[method-assign] # noqa: SLF001
