"""TCP ports of the loopback for servers of tests."""

import secrets
import socket
from collections import deque
from dataclasses import fields

from services.cli.site import Ports

FIRST, COUNT = 20_000, 12_000
"""Below those that the kernel gives to clients, so that none takes a server's while it is down."""
_MOST = 128
_held: deque[socket.socket] = deque()


def free_port() -> int:
    """A port that nobody listens on, and that no other test process is given soon.

    Two processes of tests would otherwise meet: the one is given a port that the other's server does not listen on yet.
    """
    while True:
        port = FIRST + secrets.randbelow(COUNT)
        if _is_free(port):
            return port


def free_ports_in_a_row(count: int) -> int:
    """The first of so many, each as free_port() gives it."""
    while True:
        first = FIRST + secrets.randbelow(COUNT - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def free_ports(count: int) -> list[int]:
    """So many of them, all different."""
    return [free_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    """If so, it is held by us."""
    if not _held_by_us(port):
        return False
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _held_by_us(port: int) -> bool:
    """Takes the UDP port of this number, which only one process can have, as the sign that the TCP port is ours."""
    sign = socket.socket(type=socket.SOCK_DGRAM)
    try:
        sign.bind(("127.0.0.1", port))
    except OSError:
        sign.close()
        return False
    _held.append(sign)
    while len(_held) > _MOST:
        _held.popleft().close()
    return True


def site_ports() -> Ports:
    """Free ports for everything of a site."""
    return Ports(*free_ports(len(fields(Ports))))


def listens(port: int) -> bool:
    """Whether somebody takes connections on this port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
