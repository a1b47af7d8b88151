"""Counts the frames of streams and tells how old those of one device were; a process of its own, like a SCADA tool.

Prints one JSON line when it is stopped by SIGTERM: frames, values, seconds, missing (holes in seq), and the latency of
the counter's tag from the simulator's sending to here, in milliseconds (p50, p99, max).
"""

import argparse
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import cast

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.stamps import Stamps
from contracts.v1.frame_codec import decode_frame


class Count:
    """What has arrived since the last reset."""

    def __init__(self, stamps: Stamps, counter_tag: str, stamped: str) -> None:
        self._stamps = stamps
        self._tag = counter_tag
        self._stamped = f"/{stamped}/"
        self._seq: dict[tuple[str, int], int] = {}
        self.reset()

    def reset(self) -> None:
        """Begins anew: what came before was warm-up."""
        self.frames = self.values = self.missing = 0
        self.ages: list[float] = []
        self.since = time.monotonic()

    def on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        """One frame."""
        frame = decode_frame(cast("bytes", message.payload), topic=message.topic)
        stream = (message.topic, frame.epoch)
        self.missing += frame.seq - self._seq.get(stream, frame.seq - 1) - 1
        self._seq[stream] = frame.seq
        self.frames += 1
        for sample in frame.samples:
            self.values += len(sample.v)
            counter = sample.v.get(self._tag)
            if isinstance(counter, float) and self._stamped in message.topic:
                self.ages.append(self._stamps.age_s(int(counter)))

    def report(self) -> dict[str, float]:
        """The figures."""
        ages = sorted(self.ages) or [0.0]
        seconds = time.monotonic() - self.since
        at = {name: ages[min(len(ages) - 1, int(share * len(ages)))] for name, share in (("p50", 0.5), ("p99", 0.99))}
        return {
            "frames": self.frames,
            "values": self.values,
            "seconds": round(seconds, 3),
            "values_per_s": round(self.values / seconds),
            "missing": self.missing,
            "latency_p50_ms": round(at["p50"] * 1e3, 2),
            "latency_p99_ms": round(at["p99"] * 1e3, 2),
            "latency_max_ms": round(ages[-1] * 1e3, 2),
        }


def main() -> None:
    """Command line. SIGUSR1 ends the warm-up, SIGTERM the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--filter", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--counter-tag", default="v0")
    parser.add_argument("--stamped", required=True, help="the device whose values are stamped")
    parser.add_argument("--stamps", type=Path, required=True)
    given = parser.parse_args()
    count = Count(Stamps(given.stamps), given.counter_tag, given.stamped)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set("viewer", given.password_file.read_text().strip())
    client.on_message = count.on_message

    def on_socket_open(_client: object, _data: object, opened: object) -> None:
        """Acknowledgements leave at once."""
        cast("socket.socket", opened).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def on_connect(*_: object) -> None:
        """Subscribes; again after each reconnect."""
        client.subscribe(given.filter, qos=1)

    client.on_socket_open = on_socket_open
    client.on_connect = on_connect
    client.connect("127.0.0.1", given.port)
    stop = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: count.reset())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    client.loop_start()
    stop.wait()
    figures = count.report()
    client.disconnect()
    client.loop_stop()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
