"""The first thing that a service's process imports. Most of its start goes into imports; here they are kept short."""

import gc
from importlib import import_module


def start(module: str) -> int:
    """Imports the module and runs its main(); gives the exit code.

    Nothing of what is imported is garbage, and to search it takes long: it is searched for from process.work() on.
    """
    gc.disable()
    code: int = import_module(module).main()
    return code
