"""How long from a frame to the write command that a pipeline answers it with: python -m bench.react [latest|every ...].

Broker, recorder and orchestrator are processes of their own; the gateway with its device is this one (see
bench/clients.py): it publishes --rate frames a second of 100 values, one of which counts them, and answers the write
commands. The pipeline has a frame trigger, an expression and a write node, whose value tells which frame it answers. A
time is from just before a frame is handed to the socket to the arrival of its write command here; every event is stored
by the recorder. A frame is missed if no command has answered it two seconds after the last: with `latest` a newer frame
takes the place of one that waits for the run before. Prints JSON lines and adds them to bench/out.
"""

import argparse
import asyncio
import json
import sys
import time

import uvloop

from bench.clients import Client, connect
from bench.results import keep
from bench.stage import SITE, Stage, percentiles, stage
from contracts.acl import GATEWAY
from contracts.codec import encode
from contracts.v1.command import REPLY_EXPIRY_S, WRITE, Reply
from contracts.v1.device import DEVICE, DeviceInfo, GroupInfo, TagInfo, ValueType, tag_hash
from contracts.v1.frame import FRAME
from contracts.v1.frame_codec import FrameStruct, SampleStruct, encode_frame
from services.runtime.mqtt.publication import Publication

NAME, GROUP, VALUES = "press", "fast", 100
WARM_UP_S = 3.0
REST_S = 2.0


class Press:
    """A device and its gateway. took: seconds from frame to command, of the frames since reset()."""

    def __init__(self, password: str) -> None:
        commands = WRITE.filter(site=SITE, id=NAME, arg="target")
        self.client = Client(
            name="press", account=GATEWAY.name, password=password, topic_filter=commands, take=self._take
        )
        self._topic = FRAME.build(site=SITE, device=NAME, group=GROUP)
        self._quiet = {f"v{number}": number / 3 for number in range(VALUES - 1)}
        self._seq = 0
        self._sent: dict[int, float] = {}
        self.took: list[float] = []

    def show(self) -> None:
        """Says what it is."""
        names = [*self._quiet, "count", "target"]
        tags = {name: TagInfo(type=ValueType.FLOAT64, group=GROUP, writable=name == "target") for name in names}
        groups = {GROUP: GroupInfo(interval_s=0.01, epoch=1)}
        info = DeviceInfo(
            device=NAME,
            driver="modbus",
            gateway="press",
            rev="1",
            tags=tags,
            groups=groups,
            tag_count=len(tags),
            tag_hash=tag_hash(tags),
        )
        topic = DEVICE.build(site=SITE, device=NAME)
        self.client.publish(topic, encode(info, topic=topic), retain=True)

    async def work(self, rate: float, seconds: float) -> int:
        """Sends frames for so long, and waits for what follows from the last; how many."""
        self._sent, self.took = {}, []
        begun, frames = time.monotonic(), round(rate * seconds)
        for number in range(frames):
            await asyncio.sleep(begun + number / rate - time.monotonic())
            self._send()
        await asyncio.sleep(REST_S)
        return frames

    def _send(self) -> None:
        self._seq += 1
        sample = SampleStruct(t=time.time_ns() // 1000, v={**self._quiet, "count": float(self._seq)})
        frame = encode_frame(FrameStruct(epoch=1, seq=self._seq, rev="1", samples=[sample]), topic=self._topic)
        self._sent[self._seq] = time.monotonic()
        self.client.publish(self._topic, frame)

    def _take(self, command: Publication) -> None:
        value = json.loads(command.payload)["value"]
        sent_s = self._sent.pop(round(value / 2), None)
        if sent_s is not None:
            self.took.append(time.monotonic() - sent_s)
        if command.response_topic is not None:
            result = {"tag": "target", "value": value, "read_back": value, "t": time.time_ns() // 1000}
            self.client.publish(
                command.response_topic,
                encode(Reply(ok=True, result=result), topic=command.response_topic),
                expiry_s=REPLY_EXPIRY_S,
                correlation=command.correlation,
            )


def pipeline(deliver: str) -> dict[str, object]:
    """What answers each frame."""
    return {
        "pipeline": "react",
        "triggers": [{"frame": f"{NAME}/{GROUP}", "deliver": deliver}],
        "nodes": {
            "aim": {"type": "expression", "expression": "v['count'] * 2", "inputs": {"v": "trigger.values"}},
            "set": {"type": "write", "tag": f"{NAME}/target", "inputs": {"value": "aim.value"}},
        },
    }


async def measure(on: Stage, deliver: str, rate: float, seconds: float) -> dict[str, object]:
    """The figures of one way to deliver."""
    press = Press(on.password(GATEWAY.name))
    await connect(on.ports.broker, press.client)
    press.show()
    await asyncio.get_running_loop().run_in_executor(None, on.start, "orchestrator")
    await press.work(rate, WARM_UP_S)
    on.begin()
    frames = await press.work(rate, seconds)
    costs = on.costs()
    press.client.close()
    missed = frames - len(press.took)
    return {"frames": frames, "per_s": rate, **percentiles(press.took), "missed": missed, **costs}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["latest", "every", []], default=[])
    parser.add_argument("--rate", type=float, default=100.0, help="frames a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    for deliver in options.what or ["latest", "every"]:
        with stage() as on:
            on.write("pipelines", "react", pipeline(deliver))
            on.start_broker()
            on.start("recorder")
            figures = uvloop.run(measure(on, deliver, options.rate, options.seconds))
        line = {"bench": "react", "deliver": deliver, **figures}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        keep("react", line)


if __name__ == "__main__":
    main()
