"""A server behind a TCP port, and its clients: what the simulators on TCP have in common."""

import asyncio
import ssl
from abc import abstractmethod
from typing import cast

from plugins.api.served import Served


class Client(asyncio.Protocol):
    """One client of a TcpServer, which is told when it comes and goes."""

    def __init__(self, server: "TcpServer") -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both asyncio and uvloop have set TCP_NODELAY."""
        # No isinstance: uvloop's transports are asyncio.Transport by behaviour only.
        self._transport = cast("asyncio.Transport", transport)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was dropped."""
        self._transport = None
        self._server.closed(self)

    def send(self, message: bytes) -> None:
        """Sends it, unless the client has gone."""
        if self._transport:
            self._transport.write(message)

    def abort(self) -> None:
        """Breaks off at once, what is unsent with it."""
        if self._transport:
            self._transport.abort()


class TcpServer(Served):
    """Listens on a port, chosen by the system if it is given as 0. accepted: connections so far. clients: those now."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = port
        self.accepted = 0
        self.clients: set[Client] = set()
        self._tls = tls
        self._server: asyncio.Server | None = None

    @abstractmethod
    def client(self) -> Client:
        """What serves a new client."""

    async def start(self) -> None:
        """Listens. Raises OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.client, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listens no more and breaks off every connection. start() then takes the same port again."""
        if self._server is None:
            return
        self._server.close()
        self.drop()
        await self._server.wait_closed()
        self._server = None

    def drop(self) -> None:
        """Breaks off every connection; new ones are taken."""
        for client in list(self.clients):
            client.abort()

    @property
    def connected(self) -> int:
        """How many connections there are."""
        return len(self.clients)

    def opened(self, client: Client) -> None:
        """A client has connected."""
        self.accepted += 1
        self.clients.add(client)

    def closed(self, client: Client) -> None:
        """A client has gone."""
        self.clients.discard(client)
