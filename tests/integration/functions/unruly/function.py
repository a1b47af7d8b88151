"""Functions that do what functions should not."""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from plugins.api.function import InputError


def echo(x):
    return {"x": x}


def worker():
    return {"pid": os.getpid(), "parent": os.getppid(), "secret": os.environ.get("DINRAIL_SECRET")}


def die(with_signal):
    sys.stderr.write("these are my last words\n")
    sys.stderr.flush()
    os.kill(os.getpid(), with_signal)
    spin()


def leave():
    os._exit(3)


def spin():
    while True:
        pass


def wait(folder, name):
    (Path(folder) / f"{name}.{os.getpid()}.begun").touch()
    while not (Path(folder) / f"{name}.end").exists():
        time.sleep(0.005)  # busy, as a library's own loop is: a worker hears nothing from outside while it computes
    return {"pid": os.getpid()}


def hog(mb):
    held = [bytearray(1 << 20) for _ in range(mb)]
    return {"mb": len(held)}


def chat():
    sys.stdout.write("x" * 1_000_000)
    return {"read": len(sys.stdin.read())}


def broken():
    return {}["what is not there"]


def picky():
    raise InputError("there is nothing to compute it of")


def liar():
    return {"y": float("nan"), "z": 1}


def large(count):
    return {"list": [1.5] * count}


def thirds(count):
    return {"list": [number / 3 for number in range(count)]}


def brood(folder):
    code = "import os, signal, sys; open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"
    subprocess.Popen([sys.executable, "-c", code, str(Path(folder) / "brood.pid")])
    spin()


def nest(folder):
    code = "import signal, sys; open(sys.argv[1], 'w').write(str(__import__('os').getpid())); signal.pause()"
    subprocess.Popen([sys.executable, "-c", code, str(Path(folder) / "nest.pid")])
    signal.pause()


def orphan(folder):
    child = os.fork()
    if not child:
        signal.pause()
    (Path(folder) / "orphan.pid").write_text(str(child))
    os.kill(os.getpid(), 9)


def greedy(mb):
    for limit in ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2):
        with suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_AS, limit)
    return hog(mb)


FUNCTIONS = {
    "echo": echo,
    "worker": worker,
    "die": die,
    "leave": leave,
    "spin": spin,
    "wait": wait,
    "wait-once": wait,
    "hog": hog,
    "chat": chat,
    "broken": broken,
    "picky": picky,
    "liar": liar,
    "large": large,
    "thirds": thirds,
    "brood": brood,
    "nest": nest,
    "orphan": orphan,
    "greedy": greedy,
}
