"""`dinrail`: the command line."""

import typer

from services.cli.commands import Commands
from services.cli.person import person_options

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Values of machines through MQTT into history: make a site, run it, look at it.",
)
app.callback()(person_options)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
