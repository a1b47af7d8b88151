"""The plugin of functions that is there to be copied keeps the promises of all; copy this file with it."""

from pathlib import Path

from plugins.api.function_suite import FunctionSuite


class TestTemplate(FunctionSuite):
    folder = Path(__file__).parents[2] / "plugins/functions/_template"
