"""The same way with nothing in it: how long the machine itself takes, at the same time as the spine is measured.

A process of its own, without dinrail: each 100 ms nine Modbus requests one after the other, whose answers hold 500
float32; then their 2,000 bytes five times over, as long as a frame, through the broker and back to it. The time from
the first answer to that arrival holds the same changes of process as a value's, so that what it shows beyond some
2 ms is the machine's, or its host's. Prints one JSON line when it is stopped by SIGTERM; SIGUSR1 ends the warm-up.
"""

import argparse
import json
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from contracts.v1.tag import TAG

LOOPBACK = "127.0.0.1"
UNIT = 2  # the simulator stamps the polls of unit 1
REGISTERS = 1000
AT_ONCE = 112  # nine requests, as the gateway's plan has
INTERVAL_S = 0.1
TOPIC = TAG.build(site="bench", device="floor", tag="floor")  # which the recorder does not take


def connect(port: int, account: str, password: Path) -> mqtt.Client:
    """A client of the broker, its loop running."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(account, password.read_text().strip())
    client.on_socket_open = lambda _client, _data, opened: opened.setsockopt(  # type: ignore[attr-defined]
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )
    client.connect(LOOPBACK, port)
    client.loop_start()
    return client


class Floor:
    """One way after the other. ages: seconds of each since the warm-up."""

    def __init__(self, *, modbus: int, publisher: mqtt.Client, subscriber: mqtt.Client) -> None:
        self.ages: list[float] = []
        self._line = socket.create_connection((LOOPBACK, modbus))
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._publisher = publisher
        self._subscriber = subscriber
        self._arrived = threading.Event()
        self._arrived_s = 0.0
        subscriber.on_message = self._on_message

    def subscribe(self) -> None:
        """Returns when the broker has taken the subscription."""
        taken = threading.Event()
        self._subscriber.on_subscribe = lambda *_: taken.set()
        self._subscriber.subscribe(TOPIC, qos=1)
        if not taken.wait(5):
            raise TimeoutError("the broker does not take the subscription")

    def go(self) -> None:
        """There once, and notes how long it took."""
        self._arrived.clear()
        data = b""
        begun = 0.0
        for address in range(0, REGISTERS, AT_ONCE):
            count = min(AT_ONCE, REGISTERS - address)
            self._line.sendall(struct.pack(">HHHBBHH", address, 0, 6, UNIT, 3, address, count))
            data += self._receive(9 + 2 * count)[9:]
            begun = begun or time.monotonic()
        self._publisher.publish(TOPIC, data * 5, qos=1)
        if self._arrived.wait(1):
            self.ages.append(self._arrived_s - begun)

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._line.recv(count - len(data))
        return data

    def _on_message(self, *_: object) -> None:
        self._arrived_s = time.monotonic()
        self._arrived.set()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--modbus", type=int, required=True)
    parser.add_argument("--passwords", type=Path, required=True, help="the folder of the accounts' passwords")
    given = parser.parse_args()
    publisher, subscriber = (
        connect(given.port, one, given.passwords / f"{one}.password") for one in ("gateway", "viewer")
    )
    floor = Floor(modbus=given.modbus, publisher=publisher, subscriber=subscriber)
    stop = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: floor.ages.clear())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    floor.subscribe()
    while not stop.wait(INTERVAL_S):
        floor.go()
    ages = sorted(floor.ages) or [0.0]
    at = {name: ages[min(len(ages) - 1, int(share * len(ages)))] for name, share in (("p50", 0.5), ("p99", 0.99))}
    print(json.dumps({f"floor_{name}_ms": round(age * 1e3, 2) for name, age in at.items()}), flush=True)
    for client in (publisher, subscriber):
        client.disconnect()
        client.loop_stop()


if __name__ == "__main__":
    main()
