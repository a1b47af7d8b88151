"""What the spine carries: simulator -> gateway -> broker -> recorder -> embedded history, each a process of its own.

    python -m bench.spine                      every scenario, tag topics at defaults and off; prints a table
    python -m bench.spine --scenario modbus-fast --seconds 20

Scenarios: `modbus-100ms` 500 float32 of one Modbus device each 100 ms; `modbus-fast` the same again at once;
`modbus-most` eight such devices on one line with four requests under way, without the recorder, and with tag topics on
only the first device's 500 tags change beyond their dead band; `modbus-fleet` 50 devices with 50 float32 each second;
`opcua` 1000 Double variables at 10 Hz by subscription, and `opcua-10ms` the same sampled and published each 10 ms.
Results go to bench/out/spine.jsonl as JSON lines. A value is one float32 or one Double, all changing at every poll.
Latency: from the sending of the first answer (or just before the write that makes the notification) of the first device
to arrival of the frame at a subscriber of its own process. On time: polls in their own slot, of all slots there were.
"""

import argparse
import json
import signal
import tempfile
import time
from pathlib import Path

from bench.process import machine_ticks, stolen_share, wait_until
from bench.results import keep
from bench.rig import SCENARIOS, Scenario, accounts, running
from bench.watched_gateway import collections


def measure(scenario: Scenario, *, tag_topics: bool, seconds: float) -> dict[str, object]:
    """One run: warm-up, measurement, clean stop, and the count that must come out exactly."""
    with (
        tempfile.TemporaryDirectory(prefix="dinrail-bench-") as folder,
        running(scenario, tag_topics, Path(folder)) as rig,
    ):
        wait_until(lambda: rig.metric("gateway", "dinrail_values_total") > 0, "values are read")
        time.sleep(3)
        for name in ("subscriber", "floor"):
            if name in rig.processes:
                rig.processes[name].child.send_signal(signal.SIGUSR1)
        cpu = {name: process.cpu_s() for name, process in rig.processes.items()}
        before = rig.counts()
        ticks = machine_ticks()
        began = time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - began
        stolen = stolen_share(ticks)
        cpu = {name: process.cpu_s() - cpu[name] for name, process in rig.processes.items()}
        memory = {name: round(process.rss_mb()) for name, process in rig.processes.items()}
        counts = {name: after - before[name] for name, after in rig.counts().items()}
        seen = json.loads(rig.processes["subscriber"].stop())
        return {
            "scenario": scenario.name,
            "tag_topics": tag_topics,
            "values_per_poll": scenario.values,
            "produced_per_s": round(counts["values"] / elapsed),
            "stored_per_s": round(counts["taken"] * scenario.values / elapsed),
            "on_time": round(1 - counts["overruns"] / max(1, counts["polls"] + counts["overruns"]), 5),
            "subscriber": seen,
            **(json.loads(rig.processes["floor"].stop()) if scenario.floor else {}),
            "cpu_share": {name: round(used / elapsed, 2) for name, used in cpu.items()},
            "cpu_s_per_100k_values": {name: round(used / counts["values"] * 1e5, 3) for name, used in cpu.items()},
            "rss_mb": memory,
            "stolen": stolen,
            **collections(rig.collections, since_s=began),
            **(accounts(rig) if scenario.recorder else {"lost": seen["missing"]}),
        }


def row(result: dict[str, object]) -> str:
    """One result as a line of the table in RESULTS.md."""
    seen, cpu, share = result["subscriber"], result["cpu_s_per_100k_values"], result["cpu_share"]
    assert isinstance(seen, dict)
    assert isinstance(cpu, dict)
    assert isinstance(share, dict)
    busiest = max(share, key=share.__getitem__)
    cells = [
        result["scenario"],
        "on" if result["tag_topics"] else "off",
        f"{result['produced_per_s']:,}",
        f"{result['stored_per_s']:,}",
        f"{result['on_time']:.2%}",
        result["lost"],
        seen["latency_p50_ms"],
        seen["latency_p99_ms"],
        result.get("floor_p50_ms", "–"),
        result.get("floor_p99_ms", "–"),
        *(cpu.get(name, "–") for name in ("gateway", "broker", "recorder", "simulator")),
        f"{busiest} {share[busiest]:.0%}",
        f"{result['stolen']:.1%}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


COLUMNS = (
    "scenario",
    "tag topics",
    "values/s into MQTT",
    "values/s into history",
    "polls on time",
    "polls lost",
    "p50 ms",
    "p99 ms",
    "floor p50",
    "floor p99",
    "gateway CPU-s/100k values",
    "broker",
    "recorder",
    "simulator",
    "busiest process",
    "stolen %",
)
HEAD = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), action="append", help="default: all")
    parser.add_argument("--tag-topics", choices=("on", "off", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement (at most 300)")
    given = parser.parse_args()
    print(HEAD, flush=True)
    for name in given.scenario or SCENARIOS:
        for topics in (True, False):
            if given.tag_topics == "both" or (given.tag_topics == "on") == topics:
                result = measure(SCENARIOS[name], tag_topics=topics, seconds=min(given.seconds, 300.0))
                keep("spine", result)
                print(row(result), flush=True)


if __name__ == "__main__":
    main()
