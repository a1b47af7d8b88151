"""The first thing that a service's process imports. Most of its start goes into imports; here they are kept short."""

import gc
import os
import sys
from importlib import import_module


def start(module: str) -> int:
    """Imports the module and runs its main(); gives the exit code.

    Nothing of what is imported is garbage, and to search it takes long: it is searched for from process.work() on.
    """
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it looks through every installed package
    _import_without("structlog", "rich")  # would take up rich for colours that logs.py does not use: 80 modules, 4 MB
    code: int = import_module(module).main()
    return code


def _import_without(module: str, unwanted: str) -> None:
    """Imports the module as where the other is not installed; whoever wants that one afterwards gets it."""
    sys.modules[unwanted] = None  # type: ignore[assignment]  # "cannot be imported", says Python's reference, 5.3.1
    try:
        import_module(module)
    finally:
        del sys.modules[unwanted]
