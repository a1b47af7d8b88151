"""What a worker gives itself for bounds, in processes that are no workers."""

import os
import subprocess
import sys

import pytest

FORKS = """
import os, random, signal, threading
from services.compute import confines
from services.compute.confines import give_up_rights
if os.getuid() == 0:
    nobody_else = random.randrange(30_000, 60_000)
    os.setgroups([])
    os.setresgid(nobody_else, nobody_else, nobody_else)
    os.setresuid(nobody_else, nobody_else, nobody_else)
give_up_rights()
confines.bound_processes(8)
begun = []
try:
    while len(begun) < 100:
        child = os.fork()
        if not child:
            signal.alarm(60)  # should nobody end it
            signal.pause()
        begun.append(child)
except BlockingIOError:
    pass
for child in begun:
    os.kill(child, 9)
for child in begun:
    os.waitpid(child, 0)
print(len(begun), flush=True)
os._exit(0)
"""

CROWDED = FORKS.replace(
    "confines.bound_processes(8)",
    """
for _ in range(20):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
confines._tasks_of = lambda user: 1
confines.bound_processes(8)
""",
)

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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count otherwise")
def test_a_fork_bomb_gets_no_further_than_the_bound() -> None:
    """All processes of a user count. Root can be one whom nobody else is; else those that end meanwhile give room."""
    begun = int(said(FORKS))

    assert begun == 8 if os.getuid() == 0 else begun < 100


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count otherwise")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can be a user of whom nobody else begins and ends processes")
def test_processes_of_the_user_that_cannot_be_seen_leave_functions_their_own() -> None:
    assert 8 <= int(said(CROWDED)) <= 17


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such right")
def test_not_even_root_goes_beyond_a_hard_limit_once_the_right_to_is_given_up() -> None:
    assert said(LIMITS) == "bound"
