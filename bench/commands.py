"""What 200 clients that send commands to the orchestrator get: python -m bench.commands [reads|runs|both|writes ...].

Broker, recorder, orchestrator and, for `writes`, a gateway with a Modbus server are processes of their own; the clients
are this one, each with its own connection and its own reply topic (see bench/clients.py). Every event is stored.

    reads   pipeline `get` and `list` in turn
    runs    pipeline `run` of two nodes
    both    3,000 reads and 500 runs a second at the same time
    writes  device `write`, verified, spread over 8 devices

Paced at --rate commands a second each client has its own times, and a latency counts from when the command was due,
also if the client's command before had no answer yet; flat out each sends its next command with the answer to the one
before. An error is an answer that says so, a refusal by the broker, or no answer. All clients of a kind are one user:
the bench sets that user's allowance beyond what it asks for. Prints JSON lines and adds them to bench/out.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle

import uvloop

from bench.clients import Client, connect
from bench.results import keep
from bench.stage import SITE, Stage, percentiles, stage
from contracts.acl import OPERATOR, VIEWER
from contracts.v1.command import REPLY, WRITE
from contracts.v1.pipeline import GET_PIPELINE, LIST_PIPELINES, RUN_PIPELINE, WORKSPACE
from services.runtime.mqtt.publication import Publication

CLIENTS = 200
DEVICES = 8
PIPELINES = 10
DEADLINE_S = 10
WARM_UP_S = 3.0
DONE = b'{"ok":true'
PIPELINE: Mapping[str, object] = {
    "title": "Half of what is put in, if it is much",
    "inputs": {"x": {"type": "number", "default": 80}},
    "limits": {"runs": 100, "queue": 10_000},
    "nodes": {
        "half": {"type": "expression", "expression": "x / 2", "inputs": {"x": "inputs.x"}},
        "much": {"type": "condition", "when": "x > 30", "inputs": {"x": "half.value"}},
    },
    "outputs": {"half": "half.value"},
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A command: where it goes, with what."""

    topic: str
    payload: bytes


class Asker:
    """A client that sends command after command. asks: what it sends, for ever."""

    def __init__(self, number: int, *, account: str, password: str, asks: Iterator[Ask]) -> None:
        name = f"{account}-{number}"
        self._reply = REPLY.build(site=SITE, user=account, client=name)
        self.client = Client(name=name, account=account, password=password, topic_filter=self._reply, take=self._take)
        self._asks = asks
        self._loop = asyncio.get_running_loop()
        self._due_s = 0.0
        self._every_s = 0.0
        self._until_s = 0.0
        self._sent = 0
        self._waits = False
        self.took: list[float] = []
        self.errors: list[str] = []
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Is set when the last command has its answer."""

    def begin(self, first_s: float, every_s: float, until_s: float) -> None:
        """Sends from first_s on; every_s: 0 for flat out. Times are the machine's monotonic clock."""
        self.took, self.errors = [], []
        self._due_s, self._every_s, self._until_s = first_s, every_s, until_s
        self.over = self._loop.create_future()
        self._loop.call_later(first_s - time.monotonic(), self._send)

    def end(self) -> None:
        """Whatever has no answer by now is an error."""
        if self._waits:
            self.errors.append("no answer")
            self._waits = False

    def _send(self) -> None:
        ask = next(self._asks)
        self._sent += 1
        self._waits = True
        self.client.publish(
            ask.topic,
            ask.payload,
            expiry_s=DEADLINE_S,
            response_topic=self._reply,
            correlation=self._sent.to_bytes(8),
        )

    def _take(self, reply: Publication) -> None:
        now_s = time.monotonic()
        if reply.correlation != self._sent.to_bytes(8) or not self._waits:
            self.errors.append("an answer to another command")
            return
        self._waits = False
        self.took.append(now_s - self._due_s)
        if not reply.payload.startswith(DONE):
            self.errors.append(reply.payload[:200].decode())
        self._due_s = self._due_s + self._every_s if self._every_s else now_s
        if self._due_s >= self._until_s:
            self.over.set_result(None)
        elif self._due_s <= now_s:
            self._send()
        else:
            self._loop.call_later(self._due_s - now_s, self._send)


@dataclass(slots=True)
class Crowd:
    """Clients of one account. rate: commands a second of all of them together; 0: flat out."""

    askers: list[Asker]
    rate: float

    async def work(self, seconds: float) -> Mapping[str, object]:
        """So long; what came of it."""
        begun = time.monotonic() + 0.1
        every_s = len(self.askers) / self.rate if self.rate else 0.0
        for number, asker in enumerate(self.askers):
            asker.begin(begun + number * (every_s or 0.1) / len(self.askers), every_s, begun + seconds)
        await asyncio.wait([asker.over for asker in self.askers], timeout=seconds + DEADLINE_S)
        elapsed = time.monotonic() - begun
        for asker in self.askers:
            asker.end()
        took = [one for asker in self.askers for one in asker.took]
        errors = [one for asker in self.askers for one in asker.errors]
        refused = sum(asker.client.refused for asker in self.askers)
        told = {"first_error": errors[0]} if errors else {}
        return {"asked_per_s": self.rate or "flat out", "per_s": round(len(took) / elapsed)} | {
            **percentiles(took),
            "errors": len(errors) + refused,
            **told,
        }


def reads() -> Iterator[Ask]:
    """`get` and `list` in turn."""
    one = GET_PIPELINE.build(site=SITE, user=VIEWER.name, scope=WORKSPACE, id="half-1")
    every = LIST_PIPELINES.build(site=SITE, user=VIEWER.name, scope=WORKSPACE, id="all")
    return cycle((Ask(one, b"{}"), Ask(every, b"{}")))


def runs() -> Iterator[Ask]:
    """`run`, of one pipeline."""
    topic = RUN_PIPELINE.build(site=SITE, user=OPERATOR.name, scope=WORKSPACE, id="half-1")
    return (Ask(topic, b'{"inputs":{"x":%d}}' % number) for number in cycle(range(1, 1000)))


def writes() -> Iterator[Ask]:
    """`write`, to one device after the other."""
    topics = [WRITE.build(site=SITE, user=OPERATOR.name, id=f"m{number}", arg="v0") for number in range(DEVICES)]
    return (Ask(topics[number % DEVICES], b"%d" % number) for number in cycle(range(1000 * DEVICES)))


def start_plant(on: Stage) -> None:
    """A Modbus server and the gateway, with the devices that are written to."""
    on.start_tool("register_server", on.ports.modbus)
    connection = {"host": "127.0.0.1", "port": on.ports.modbus, "unit_id": 1, "in_flight": 4}
    for number in range(DEVICES):  # each has registers of its own
        tags: dict[str, dict[str, object]] = {
            f"v{value}": {"address": f"holding:{100 * number + 2 * value}", "type": "float32"} for value in range(50)
        }
        tags["v0"] |= {"writable": True, "range": [0, 1_000_000]}
        device = {
            "device": f"m{number}",
            "driver": "modbus",
            "writes": "enabled",
            "connection": connection,
            "groups": {"all": {"interval": "1s", "tags": tags}},
        }
        on.write("devices", f"m{number}", device)
    on.start("gateway")


async def crowd(on: Stage, account: str, asks: Callable[[], Iterator[Ask]], *, clients: int, rate: float) -> Crowd:
    """So many clients, connected, each with what it asks begun at another place."""
    password = on.password(account)
    made = Crowd([], rate)
    for number in range(clients):
        own = asks()
        for _ in range(number % (2 * DEVICES)):
            next(own)
        asker = Asker(number, account=account, password=password, asks=own)
        await connect(on.ports.broker, asker.client)
        made.askers.append(asker)
    return made


async def measure(on: Stage, name: str, rate: float, seconds: float) -> None:
    """One bench, paced and then flat out; `both` only paced."""
    if name == "both":
        half = CLIENTS // 2
        crowds = {
            "reads": await crowd(on, VIEWER.name, reads, clients=half, rate=3000),
            "runs": await crowd(on, OPERATOR.name, runs, clients=half, rate=500),
        }
        await show(on, name, crowds, seconds)
    else:
        account, asks = {
            "reads": (VIEWER.name, reads),
            "runs": (OPERATOR.name, runs),
            "writes": (OPERATOR.name, writes),
        }[name]
        crowds = {name: await crowd(on, account, asks, clients=CLIENTS, rate=rate)}
        await show(on, name, crowds, seconds)
        crowds[name].rate = 0
        await show(on, name, crowds, seconds)
    for one in crowds.values():
        for asker in one.askers:
            asker.client.close()


async def show(on: Stage, name: str, crowds: Mapping[str, Crowd], seconds: float) -> None:
    """Measures after a warm-up, and tells."""
    await asyncio.gather(*(one.work(WARM_UP_S) for one in crowds.values()))
    on.begin()
    figures = await asyncio.gather(*(one.work(seconds) for one in crowds.values()))
    costs = on.costs()
    for kind, found in zip(crowds, figures, strict=True):
        line = {"bench": name, "kind": kind, "clients": len(crowds[kind].askers), **found, **costs}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        keep("commands", line)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["reads", "runs", "both", "writes", []], default=[])
    parser.add_argument("--rate", type=float, help="commands a second, paced; default 3000 reads, 500 of the others")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    for name in options.what or ["reads", "runs"]:
        with stage() as on:
            for number in range(PIPELINES):
                on.write("pipelines", f"half-{number}", {"pipeline": f"half-{number}", **PIPELINE})
            on.start_broker()
            on.start("recorder")
            if name == "writes":
                start_plant(on)
            else:
                free = {kind: {"rate": 1e6, "burst": 1_000_000} for kind in ("reads", "acts")}
                on.start("orchestrator", queue=10_000, limits=free)
            uvloop.run(measure(on, name, options.rate or (3000 if name == "reads" else 500), options.seconds))


if __name__ == "__main__":
    main()
