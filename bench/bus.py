"""What a message costs on the bus: python -m bench.bus [--messages N]. Prints JSON lines.

A mosquitto of its own, this process under uvloop. `publish` hands frames of 10 kB to publish_bytes, `retain` values of
distinct tags to the outbox, `aiomqtt` publishes the same frames through aiomqtt's own publish(), which hears no
refusal. `intake` takes frames from a durable session and acknowledges them batch by batch. Absolute figures depend on
what else the machine does; compare within one run.
"""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiomqtt
import uvloop
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contracts.v1.frame import FRAME
from contracts.v1.tag import TAG, TagValue
from tests.integration.clients import make_intake, taking
from tests.real_broker import SITE, Broker
from tests.real_bus import make_bus, running

FRAME_BYTES = bytes(10_000)
TOPIC = FRAME.build(site=SITE, device="filler", group="fast")
CALLERS = (1, 20, 100)


def cpu_s() -> float:
    """Processor seconds of this process so far, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def measured(messages: int, **what: object) -> Iterator[None]:
    """Prints what the messages of the body cost: how many a second, and processor microseconds of each."""
    cpu, begun = cpu_s(), time.perf_counter()
    yield
    seconds = time.perf_counter() - begun
    figures = {"per_s": round(messages / seconds), "cpu_us": round(1e6 * (cpu_s() - cpu) / messages, 1)}
    sys.stdout.write(json.dumps({"bench": "bus", **what, "messages": messages, **figures}) + "\n")


async def spread(messages: int, callers: int, publish: Callable[[], Awaitable[None]]) -> None:
    """Publishes so many messages from so many tasks at once, each of which waits for one before the next."""

    async def call() -> None:
        """One caller's share, one after the other."""
        for _ in range(messages // callers):
            await publish()

    await asyncio.gather(*(call() for _ in range(callers)))


async def measure_publishing(broker: Broker, messages: int) -> None:
    """Our own bus: publish_bytes() with each number of callers, then retain() of distinct tags."""
    bus = make_bus(broker, "bench")
    async with running(bus):
        for callers in CALLERS:
            with measured(messages, what="publish", callers=callers):
                await spread(messages, callers, lambda: bus.publish_bytes(TOPIC, FRAME_BYTES, kind=FRAME.name))
        with measured(messages, what="retain"):
            for number in range(messages):
                value = TagValue(value=float(number), ts=number, q=192, seen=number)
                bus.retain(TAG, value, device="filler", tag=f"t{number}")
            await bus.flush()


async def measure_aiomqtt(broker: Broker, messages: int) -> None:
    """aiomqtt's publish(), with the properties that ours sends."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        client.pending_calls_threshold = max(CALLERS)
        for callers in CALLERS:
            with measured(messages, what="aiomqtt", callers=callers):
                await spread(
                    messages, callers, lambda: client.publish(TOPIC, FRAME_BYTES, qos=1, properties=properties)
                )


async def measure_intake(broker: Broker, messages: int) -> None:
    """What a durable session has kept, taken and acknowledged batch by batch."""
    async with taking(make_intake(broker)):
        pass  # from now on the broker keeps frames for it
    bus, intake = make_bus(broker, "bench"), make_intake(broker)
    async with running(bus):
        await spread(messages, 100, lambda: bus.publish_bytes(TOPIC, FRAME_BYTES, kind=FRAME.name))
    with measured(messages, what="intake"):
        async with taking(intake):
            taken = 0
            while taken < messages:
                batch = await intake.batch()
                taken += len(batch.messages)
                batch.ack()


async def measure(messages: int) -> None:
    """All of it with a broker of its own."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            await measure_publishing(broker, messages)
            await measure_aiomqtt(broker, messages)
            await measure_intake(broker, messages)
        finally:
            broker.stop()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    uvloop.run(measure(parser.parse_args().messages))


if __name__ == "__main__":
    main()
