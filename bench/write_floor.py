"""The same way as a write's with nothing in it: how long the machine itself takes, beside bench.write.

    asker -> broker -> executor: an entry of 300 bytes to the disk, a Modbus write and a read -> broker -> asker

The executor is a process of its own without dinrail, the asker a thread of who asks; both publish with QoS 1. So it
holds the same changes of process and the same promise: what is begun is on the disk before.
"""

import argparse
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt

from bench.floor import LOOPBACK, connect
from services.cli.site import Ports, Site

ASKED = "dinrail/v1/bench/cmd/operator/pipeline/main/floor/run/all"  # which no gateway reads
ANSWERED = "dinrail/v1/bench/reply/operator/floor"
ENTRY = bytes(300)
ENTRIES = 1 << 20
PATIENCE_S = 5.0


def subscribe(client: mqtt.Client, topic: str) -> None:
    """Returns when the broker has taken the subscription."""
    taken = threading.Event()
    client.on_subscribe = lambda *_: taken.set()
    client.subscribe(topic, qos=1)
    if not taken.wait(PATIENCE_S):
        raise TimeoutError(f"the broker does not take the subscription to {topic}")


class Executor:
    """Enters, writes, reads, answers. values: float32 that are read back with the one written."""

    def __init__(self, *, client: mqtt.Client, modbus: int, values: int, entries: Path) -> None:
        self._client = client
        self._registers = 2 * values
        self._line = socket.create_connection((LOOPBACK, modbus))
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = os.open(entries, os.O_WRONLY | os.O_CREAT, 0o640)
        os.pwrite(self._file, bytes(ENTRIES), 0)  # as the book does: a file that grows is slower to sync
        os.fsync(self._file)
        self._at = 0
        client.on_message = self._on_message
        subscribe(client, ASKED)

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        os.pwrite(self._file, ENTRY, self._at)
        os.fdatasync(self._file)
        self._at = (self._at + len(ENTRY)) % (ENTRIES - len(ENTRY))
        self._ask(struct.pack(">BHHB4s", 16, 0, 2, 4, bytes(message.payload)), 12)
        read_back = self._ask(struct.pack(">BHH", 3, 0, self._registers), 9 + 2 * self._registers)
        self._client.publish(ANSWERED, read_back[9:13], qos=1)

    def _ask(self, request: bytes, count: int) -> bytes:
        self._line.sendall(struct.pack(">HHHB", 1, 0, 1 + len(request), 1) + request)
        answer = b""
        while len(answer) < count:
            answer += self._line.recv(count - len(answer))
        return answer


class Asker:
    """Asks, one after the other."""

    def __init__(self, client: mqtt.Client) -> None:
        self._client = client
        self._answered = threading.Event()
        self._answer = b""
        client.on_message = self._on_message
        subscribe(client, ANSWERED)

    def ask(self, writes: int) -> list[float]:
        """Milliseconds of each write."""
        took = []
        for number in range(writes):
            value = struct.pack(">f", number)
            self._answered.clear()
            begun = time.perf_counter()
            self._client.publish(ASKED, value, qos=1)
            if not self._answered.wait(PATIENCE_S) or self._answer != value:
                raise SystemExit(f"floor: write {number} gave {self._answer!r}")
            took.append((time.perf_counter() - begun) * 1000)
        return took

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        self._answer = bytes(message.payload)
        self._answered.set()


@contextmanager
def floor(site: Site, ports: Ports, values: int) -> Iterator[Asker]:
    """An executor beside the gateway while it lasts. values: of the device."""
    command = [sys.executable, "-m", "bench.write_floor", "--site", str(site.folder), "--values", str(values)]
    command += ["--port", str(ports.broker), "--modbus", str(ports.modbus)]
    client = connect(ports.broker, "operator", site.password("operator"))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as executor:
        try:
            assert executor.stdout is not None
            executor.stdout.readline()
            yield Asker(client)
        finally:
            executor.send_signal(signal.SIGTERM)
            client.disconnect()
            client.loop_stop()


def main() -> None:
    """The executor's command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--modbus", type=int, required=True)
    parser.add_argument("--values", type=int, required=True)
    given = parser.parse_args()
    site = Site(given.site)
    client = connect(given.port, "orchestrator", site.password("orchestrator"))
    Executor(client=client, modbus=given.modbus, values=given.values, entries=site.data / "floor.page")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("ready", flush=True)
    stop.wait()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
