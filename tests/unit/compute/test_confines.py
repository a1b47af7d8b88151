"""What a worker gives itself for bounds, in processes that are no workers."""

import os
import subprocess
import sys

import pytest

FORKS = """
import os, sys, threading, time
from services.compute import confines
from services.compute.confines import give_up_rights
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
give_up_rights()
confines.bound_processes(8)
begun = []
try:
    while len(begun) < 100:
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
        begun.append(child)
except BlockingIOError:
    pass
for child in begun:
    os.kill(child, 9)
for child in begun:
    os.waitpid(child, 0)
print(len(begun))
"""

CROWDED = FORKS.replace(
    "confines.bound_processes(8)",
    """
for _ in range(20):
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
confines._tasks_of = lambda user: 1
confines.bound_processes(8)
""",
).replace("print(len(begun))", "print(len(begun), flush=True)\nos._exit(0)")

LIMITS = """
import resource
from services.compute.confines import give_up_rights
give_up_rights()
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
try:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))
except ValueError:
    print("bound")
"""


def said(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=30, check=True)
    return done.stdout.decode().strip()


def forked(code: str, *, least: int, most: int) -> int:
    """How many it could begin. Processes of the same user count wherever on the machine they are: those that end or
    begin at that very moment give room or take it, so the first of ten tries that is in the range will do."""
    for _ in range(10):
        found = int(said(code))
        if least <= found <= most:
            break
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count otherwise")
def test_a_fork_bomb_gets_no_further_than_the_bound() -> None:
    assert 1 <= forked(FORKS, least=1, most=10) <= 10


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count otherwise")
def test_processes_of_the_user_that_cannot_be_seen_leave_functions_their_own() -> None:
    assert 8 <= forked(CROWDED, least=8, most=17) <= 17


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such right")
def test_not_even_root_goes_beyond_a_hard_limit_once_the_right_to_is_given_up() -> None:
    assert said(LIMITS) == "bound"
