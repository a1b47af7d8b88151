"""What `dinrail doctor` says of whoever listens where a service should."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from services.cli.doctor import vitals
from services.cli.doctor.finding import Finding, State
from services.cli.doctor.vitals import Vitals


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """The port of a program that gives this answer to each request; None: it never takes one."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer or b"")

        if answer is not None:
            Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def found(port: int) -> list[Finding]:
    return list(Vitals("gateway", "127.0.0.1", port).findings())


def http(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_a_service_that_listens_and_says_nothing_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "ANSWER_S", 0.2)
    with listening(None) as port:
        (one,) = found(port)

    assert one.state is State.FAIL
    assert f"gateway: whoever has 127.0.0.1:{port} takes connections and says nothing" in one.text


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.2\r\n", http("hello"), http("[]"), http('{"parts": 1}'), http('{"parts": {"bus": true}}')],
)
def test_another_program_where_a_service_should_be_is_called_that(answer: bytes) -> None:
    with listening(answer) as port:
        (one,) = found(port)

    assert one == Finding(State.WARN, f"gateway: another program answers at 127.0.0.1:{port}/health")


def test_where_nobody_listens_the_bus_has_the_word() -> None:
    with listening(None) as port:
        pass

    assert found(port) == []
