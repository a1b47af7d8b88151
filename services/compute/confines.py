"""What a worker process may take: memory, processes, and a life no longer than its service's.

Called in the worker itself, before it loads what it does not trust. They are bounds for functions that go wrong, and no
prison for those that mean harm.
"""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

GROWN_MB = 256
"""MiB beyond what it held when it was warm, after which a worker is replaced between two jobs."""
ANSWER_MB = 64
"""MiB for the answer, when the function has taken all that it may."""
MOST_PROCESSES = 512
"""Processes and threads that all functions of a worker may begin; all else that the user begins counts with them."""
_STEPS = 100
"""How often as many more are granted to a user who has that many out of sight."""

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24  # prctl(2)
_CAP_SYS_RESOURCE = 24  # capabilities(7): to go beyond hard limits
_CAPABILITY_VERSION_3 = 0x20080522  # capget(2)
_MIB = 1 << 20
_STATM = "/proc/self/statm"  # proc(5)
_PAGE = resource.getpagesize()


def live_and_die_with(parent: int) -> None:
    """An interrupt from the terminal is the parent's to handle; the parent's death is ours, even in mid-job, and ours
    is that of all that the functions have begun. To be called once, first, by the leader of a process group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _signal_at_death_of_parent(signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it died before we could ask to be told
    if sys.platform == "linux":
        _keep_group()


def give_up_rights() -> None:
    """Hard limits bind us from now on, though we be root, and so do they what we begin."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_CAPBSET_DROP, _CAP_SYS_RESOURCE)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: of the first 32 capabilities, then of the rest
    if libc.capget(header, sets) == 0:
        for index in range(3):
            sets[index] &= ~(1 << _CAP_SYS_RESOURCE)
        libc.capset(header, sets)


def bound_processes(most: int = MOST_PROCESSES) -> None:
    """The system refuses to begin more than so many beyond those that this user has now; it never does so to root.

    Those of the same user in other containers count, and cannot be seen from here: so it is tried out how many there
    are, as exactly as `most`. To be called while there is one thread.
    """
    if sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    ceiling = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    least = _tasks_of(os.getuid()) + 1
    for wanted in range(least, min(ceiling, least + _STEPS * most), most):
        least = wanted
        resource.setrlimit(resource.RLIMIT_NPROC, (least, hard))
        if _may_fork():
            break
    bound = min(least + most - 1, ceiling)
    resource.setrlimit(resource.RLIMIT_NPROC, (bound, bound))


class Memory:
    """The address space of this process; without bounds where the system does not tell how long it is."""

    def __init__(self) -> None:
        try:  # opened once: to open it takes longer than to read it
            self._file = os.open(_STATM, os.O_RDONLY)
        except OSError:
            self._file = -1
        self._warm = self._held()
        self._lowered = False
        _, self._hard = resource.getrlimit(resource.RLIMIT_AS)

    def bound(self, most_mb: int) -> None:
        """No function gets beyond this, whatever limit it gives itself. most_mb: the greatest that limit() will get."""
        wanted = self._warm + (GROWN_MB + most_mb + ANSWER_MB) * _MIB
        if self._warm and (self._hard == resource.RLIM_INFINITY or wanted < self._hard):
            self._hard = wanted
            resource.setrlimit(resource.RLIMIT_AS, (wanted, wanted))

    def limit(self, memory_mb: int) -> None:
        """So many MiB may be taken beyond what is held now."""
        held = self._held()
        if held:
            wanted = held + memory_mb * _MIB
            soft = wanted if self._hard == resource.RLIM_INFINITY else min(wanted, self._hard)
            resource.setrlimit(resource.RLIMIT_AS, (soft, self._hard))

    def lift(self) -> None:
        """Ends limit()."""
        try:
            resource.setrlimit(resource.RLIMIT_AS, (self._hard, self._hard))
        except ValueError:  # the function has lowered the hard limit, for good
            _, self._hard = resource.getrlimit(resource.RLIMIT_AS)
            self._lowered = True

    @property
    def is_spent(self) -> bool:
        """Whether so much is held, or so little may be, that the process is to be replaced."""
        return self._lowered or self._held() - self._warm > GROWN_MB * _MIB

    def _held(self) -> int:
        """Bytes; 0 where the system does not tell."""
        return int(os.pread(self._file, 64, 0).split()[0]) * _PAGE if self._file >= 0 else 0


def _signal_at_death_of_parent(number: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _keep_group() -> None:
    """Begins a process that waits for our death, however it comes, and then ends our group with itself.

    Our parent would end it too, unless it has died with us.
    """
    worker = os.getpid()
    if os.fork():
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.closerange(0, 3)  # whoever reads from the worker is to see its end
    _signal_at_death_of_parent(signal.SIGTERM)
    if os.getppid() == worker:
        signal.sigwait({signal.SIGTERM})
    os.killpg(0, signal.SIGKILL)


def _may_fork() -> bool:
    try:
        child = os.fork()
    except OSError:
        return False
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def _tasks_of(user: int) -> int:
    """Processes and threads of the user, as RLIMIT_NPROC counts them, without those in containers beside ours."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == user:
                count += sum(1 for _ in (process / "task").iterdir())
        except OSError:
            continue  # it has ended
    return count
