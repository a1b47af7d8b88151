"""How long it takes until an outage is seen and is over: python -m bench.outage. Prints JSON lines.

One Modbus device with 500 float32 each 100 ms, tag topics at their defaults, the whole chain as processes. Measured at
a subscriber: `start` from the gateway's start to the first value in a frame; `killed` and `silent` from the machine's
end (SIGKILL, SIGSTOP) until every tag is told bad, and from its return after `--away` seconds until every tag is told
good; `broker` from its return after 20 s away (SIGKILL) to the first frame that was polled after it, and what of all
polls is missing in the history at the end.
"""

import argparse
import json
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.process import wait_for_port, wait_until
from bench.results import keep
from bench.rig import SCENARIOS, Rig, accounts, running
from contracts.codec import decode
from contracts.v1.frame_codec import decode_frame
from contracts.v1.tag import TagValue

SCENARIO = replace(SCENARIOS["modbus-100ms"], floor=False)
BROKER_AWAY_S = 20.0


class Watch:
    """A subscriber that knows the quality of every tag and when a polled frame last came."""

    def __init__(self, rig: Rig) -> None:
        self._news = threading.Condition()
        self._quality: dict[str, int] = {}
        self._polled_us = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.username_pw_set("viewer", rig.site.password("viewer").read_text().strip())
        self._client.reconnect_delay_set(0.1, 0.2)  # type: ignore[arg-type]  # it only waits for them
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", rig.ports.broker)
        self._client.loop_start()

    def _on_connect(self, *_: object) -> None:
        self._client.subscribe([(f"dinrail/v1/bench/{kind}/+/+", 1) for kind in KINDS])

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        payload = cast("bytes", message.payload)
        with self._news:
            if "/tag/" in message.topic:
                self._quality[message.topic] = decode(TagValue, payload, topic=message.topic).q
            else:
                for sample in decode_frame(payload, topic=message.topic).samples:
                    if sample.v.get("v0") is not None:
                        self._polled_us = max(self._polled_us, sample.t)
            self._news.notify_all()

    def all_are(self, quality: int) -> bool:
        """Whether every tag has been told so."""
        return len(self._quality) == SCENARIO.values and set(self._quality.values()) == {quality}

    def polled_since(self, since_s: float) -> bool:
        """Whether a value came that was polled after this time, in seconds since 1970."""
        return self._polled_us > since_s * 1e6

    def until(self, condition: Callable[[], bool], within_s: float = 60.0) -> float:
        """Seconds until the condition holds."""
        begun = time.monotonic()
        with self._news:
            if not self._news.wait_for(condition, within_s):
                raise TimeoutError(f"not within {within_s} s")
        return time.monotonic() - begun

    def close(self) -> None:
        """Leaves the broker."""
        self._client.disconnect()
        self._client.loop_stop()


KINDS = ("tag", "frame")


def start(rig: Rig, watch: Watch) -> dict[str, float]:
    """From the process's start to its first value, with the interpreter's own start."""
    rig.processes["gateway"].stop()
    begun = time.time()
    rig.start_gateway()
    first_s = watch.until(lambda: watch.polled_since(begun))
    wait_for_port(rig.ports.gateway)
    return {"first_value_s": first_s}


def killed(rig: Rig, watch: Watch, away_s: float) -> dict[str, float]:
    """The machine's process dies: its connections are closed."""
    rig.processes["simulator"].child.kill()
    bad_s = watch.until(lambda: watch.all_are(0))
    rig.processes["simulator"].child.communicate()
    time.sleep(away_s)
    rig.start_simulator()
    return {"all_bad_s": bad_s, "all_good_s": watch.until(lambda: watch.all_are(192))}


def silent(rig: Rig, watch: Watch, away_s: float) -> dict[str, float]:
    """The machine answers nothing any more: the timeout of 1 s, and of one repetition, is part of what is measured."""
    machine = rig.processes["simulator"].child
    machine.send_signal(signal.SIGSTOP)
    bad_s = watch.until(lambda: watch.all_are(0))
    time.sleep(away_s)
    machine.send_signal(signal.SIGCONT)
    return {"all_bad_s": bad_s, "all_good_s": watch.until(lambda: watch.all_are(192))}


def broker(rig: Rig, watch: Watch) -> dict[str, float]:
    """The broker dies and is away for 20 s; polling goes on."""
    rig.processes["broker"].child.kill()
    rig.processes["broker"].child.communicate()
    time.sleep(BROKER_AWAY_S)
    returned = time.time()
    rig.start_broker()
    return {"live_again_s": watch.until(lambda: watch.polled_since(returned))}


def caught_up(rig: Rig) -> bool:
    """Whether nothing of the outage waits at the gateway any more."""
    return rig.metric("gateway", "dinrail_backlog") < 100


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--away", type=float, default=3.0, help="seconds that the machine is away (at most 60)")
    away_s = min(parser.parse_args().away, 60.0)
    with tempfile.TemporaryDirectory(prefix="dinrail-bench-") as folder, running(SCENARIO, True, Path(folder)) as rig:
        watch = Watch(rig)
        watch.until(lambda: watch.all_are(192))
        figures: dict[str, object] = {}
        broker_gone_us = 0
        outages: dict[str, Callable[[], dict[str, float]]] = {
            "start": lambda: start(rig, watch),
            "killed": lambda: killed(rig, watch, away_s),
            "silent": lambda: silent(rig, watch, away_s),
            "broker": lambda: broker(rig, watch),
        }
        for name, measure in outages.items():
            broker_gone_us = int(time.time() * 1e6)  # the history is counted from the last outage on, the broker's
            figures[name] = {key: round(value, 2) for key, value in measure().items()}
            print(json.dumps({name: figures[name]}), flush=True)
            watch.until(lambda: watch.all_are(192))
        wait_until(lambda: caught_up(rig), "the backlog is stored", within_s=120)
        watch.close()
        figures["history"] = accounts(rig, since_us=broker_gone_us)
        print(json.dumps({"history": figures["history"]}), flush=True)
    keep("outage", {"away_s": away_s, **figures})


if __name__ == "__main__":
    main()
