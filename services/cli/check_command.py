"""`dinrail check`: every fault of a site's files, and what the site will ask of its buses, broker and disks."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.check import check, shown


def check_path(
    path: Annotated[
        Path, typer.Argument(help="A site, a folder of device files, or one file of a device or pipeline.")
    ],
) -> None:
    """Check settings, devices and pipelines, without starting anything: every fault with its place and its mend."""
    findings = check(path)
    for line in shown(findings.faults):
        typer.echo(line)
    if findings.faults:
        faults = len(findings.faults)
        typer.echo(f"\n{path}: {faults} fault{'' if faults == 1 else 's'}; without fault: {findings.summary}")
        raise typer.Exit(1)
    typer.echo(f"{path}: {findings.summary}; no faults")
