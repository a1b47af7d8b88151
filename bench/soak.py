"""Whether the gateway stays as it is: python -m bench.soak [--minutes 20]. Prints a JSON line per sample.

500 float32 each 100 ms with tag topics, the whole chain as processes. Each half minute: the gateway's and the
recorder's resident memory, the gateway's open files and threads, its processor time since the last sample, overruns.
At the end: memory in the last quarter against the second one, the gateway's full collections of garbage since its
start, and what of all polls is missing in the history.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.process import wait_until
from bench.results import keep
from bench.rig import SCENARIOS, Rig, accounts, running
from bench.watched_gateway import collections

SCENARIO = SCENARIOS["modbus-100ms"]
SAMPLE_S = 30.0


def sample(rig: Rig) -> dict[str, float]:
    """How the processes are now."""
    gateway, recorder = rig.processes["gateway"], rig.processes["recorder"]
    process = Path(f"/proc/{gateway.child.pid}")
    return {
        "gateway_mb": round(gateway.rss_mb(), 1),
        "recorder_mb": round(recorder.rss_mb(), 1),
        "files": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
        "gateway_cpu_s": round(gateway.cpu_s(), 2),
        "overruns": rig.metric("gateway", "dinrail_overruns_total"),
    }


def quarters(samples: list[dict[str, float]], name: str) -> dict[str, float]:
    """The median in the second and in the last quarter: the first is warm-up."""
    size = max(1, len(samples) // 4)
    second, last = samples[size : 2 * size] or samples, samples[-size:]
    return {"second": median(one[name] for one in second), "last": median(one[name] for one in last)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="at most 120")
    minutes = min(parser.parse_args().minutes, 120.0)
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="dinrail-bench-") as folder, running(SCENARIO, True, Path(folder)) as rig:
        wait_until(lambda: rig.metric("gateway", "dinrail_values_total") > 0, "values are read")
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            time.sleep(min(SAMPLE_S, max(0.0, end - time.monotonic())))
            samples.append(sample(rig))
            print(json.dumps(samples[-1]), flush=True)
        figures = {name: quarters(samples, name) for name in ("gateway_mb", "recorder_mb", "files", "threads")}
        figures |= {"collections": collections(rig.collections)}
        result = {"minutes": minutes, **figures, "overruns": samples[-1]["overruns"], **accounts(rig)}
    print(json.dumps(result), flush=True)
    keep("soak", result)


if __name__ == "__main__":
    main()
