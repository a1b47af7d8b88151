"""The worker: a process that loads the functions, then computes one job after the other until its parent is gone.

`python -m services.compute.worker`: frames come on standard input and answers go to standard output, both of which it
takes away from the functions first; what a function prints goes to standard error, where the parent reads it.
"""

import gc
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from plugins.api.function import Function, InputError, function_complaints, keywords
from plugins.api.loading import PluginError, load_entry, package_of, place_of
from plugins.api.ports import check_outputs, taken_inputs
from services.compute.confines import Memory, bound_processes, give_up_rights, live_and_die_with
from services.compute.job import (
    LENGTH_BYTES,
    Answer,
    Fault,
    FromWorker,
    Job,
    Load,
    Loaded,
    Ports,
    Source,
    packed,
    to_worker,
)


class FunctionBroken(Exception):
    """The function raised what it should not, or gave what is no map of outputs; the text says where."""


class Host:
    """The loaded functions, and how one is called."""

    def __init__(self, sources: tuple[Source, ...], *, most_memory_mb: int) -> None:
        self.refused: dict[str, str] = {}
        self._sources = {source.plugin: source for source in sources}
        self._functions: dict[str, Mapping[str, Function]] = {}
        for source in sources:
            try:
                self._functions[source.plugin] = _loaded(source)
            except PluginError as error:
                self.refused[source.plugin] = str(error)
        self._memory = Memory()
        self._memory.bound(most_memory_mb)

    def compute(self, job: Job) -> Answer:
        """Calls the function within its memory, and checks what it gives. Whatever it does costs this job alone."""
        begun = time.monotonic()
        if job.function not in self._functions.get(job.plugin, {}):
            return self._failed("compute_failed", "its plugin has just been replaced, and has it no more", begun)
        source = self._sources[job.plugin]
        promised = source.functions[job.function]
        self._memory.limit(job.memory_mb)
        try:
            outputs = _called(self._functions[job.plugin][job.function], job, promised, Path(source.folder))
        except InputError as error:
            return self._failed("invalid", str(error), begun)
        except MemoryError:
            return Answer(
                seconds=time.monotonic() - begun,
                fault="compute_failed",
                message=f"it took more than {job.memory_mb} MiB of memory",
                spent=True,
                fatal=True,
            )
        except FunctionBroken as error:
            return self._failed("compute_failed", str(error), begun)
        finally:
            self._memory.lift()
        faults = check_outputs(promised.outputs, outputs)
        if faults:
            return self._failed("compute_failed", f"it does not keep its promises: {'; '.join(faults)}", begun)
        return Answer(seconds=time.monotonic() - begun, outputs=outputs, spent=self._memory.is_spent)

    def _failed(self, fault: Fault, message: str, begun: float) -> Answer:
        return Answer(seconds=time.monotonic() - begun, fault=fault, message=message, spent=self._memory.is_spent)


def _loaded(source: Source) -> Mapping[str, Function]:
    """The functions of a plugin. Raises PluginError."""
    folder = Path(source.folder)
    entry = load_entry(package_of(folder, source.plugin), source.entry, folder=folder)
    if told := ", ".join(function_complaints(entry, source.functions)):
        raise PluginError(f"{folder}: {source.entry} is no table of functions: {told}")
    functions: Mapping[str, Function] = entry
    return functions


def _called(function: Function, job: Job, promised: Ports, folder: Path) -> dict[str, Any]:
    """Raises InputError, MemoryError, and FunctionBroken whatever else the function does."""
    try:
        outputs: object = function(**keywords(taken_inputs(promised.inputs, job.inputs)))
    except (InputError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise FunctionBroken(f"{place_of(error, folder)}: {type(error).__name__}: {error}") from error
    if not isinstance(outputs, Mapping):
        raise FunctionBroken(f"it gave a {type(outputs).__name__}, not a map of outputs")
    return dict(outputs)


def framed(answer: FromWorker, *, most_bytes: int) -> bytes:
    """The answer as a frame, or in its place that it cannot be sent."""
    try:
        frame = packed(answer)
    except (OverflowError, TypeError, ValueError) as error:
        return _unsent(answer, f"its outputs cannot be sent: {error}")
    if len(frame) > most_bytes:
        return _unsent(answer, f"its outputs have {len(frame)} bytes, over the bound of {most_bytes}")
    return frame


def _unsent(answer: FromWorker, why: str) -> bytes:
    seconds = answer.seconds if isinstance(answer, Answer) else 0.0
    return packed(Answer(seconds=seconds, fault="compute_failed", message=why))


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """What we read from and write to, where no function can touch it."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _frame(requests: BinaryIO) -> bytes | None:
    """The next frame; None once the parent has closed its end."""
    length = requests.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    wanted = int.from_bytes(length)
    data = requests.read(wanted)
    return data if len(data) == wanted else None


def main() -> int:
    """Loads what it is told to, then computes until standard input ends. The argument is the parent's process id."""
    live_and_die_with(int(sys.argv[1]))
    give_up_rights()
    bound_processes()
    requests, answers = _own_pipes()
    host: Host | None = None
    most_bytes = 0
    while (data := _frame(requests)) is not None:
        message = to_worker(data)
        if isinstance(message, Load):
            host = Host(message.sources, most_memory_mb=message.most_memory_mb)
            most_bytes = message.most_bytes
            gc.freeze()  # what is here stays: no collection looks at it again
            answer: FromWorker = Loaded(host.refused)
        elif host is not None:
            answer = host.compute(message)
        else:
            return 2  # the parent speaks another language
        _write(answers, framed(answer, most_bytes=most_bytes))
    return 0


def _write(answers: BinaryIO, frame: bytes) -> None:
    view = memoryview(frame)
    while view:
        view = view[answers.write(view) :]


if __name__ == "__main__":
    sys.exit(main())
