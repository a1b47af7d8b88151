"""`dinrail recorder`: what a recorder keeps, and what it could not keep."""

import typer

from services.cli.audit import audit
from services.cli.dead_letters import deadletters

recorder_app = typer.Typer(no_args_is_help=True, help="Show what a recorder keeps, and what it could not keep.")
recorder_app.command()(audit)
recorder_app.command()(deadletters)


@recorder_app.callback()
def recorder() -> None:
    """Makes each command a word of its own, also while there is one alone."""
