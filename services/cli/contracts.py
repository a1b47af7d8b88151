"""`dinrail contracts`: writes the generated contract documents, and checks that they are current and compatible."""

import json
from pathlib import Path
from typing import Annotated

import typer

import contracts
from contracts.compatibility import breaks
from contracts.publication import RELEASED_FOLDER, SCHEMA_FOLDER, documents, models, schema_of

contracts_app = typer.Typer(no_args_is_help=True, help="Generate and check the documents of the wire.")

Folder = Annotated[Path, typer.Option("--folder", help="The contracts folder of a clone.")]
EXAMPLES_FOLDER = "examples/v1"
HERE = Path(contracts.__file__).parent


def current(folder: Path) -> dict[str, str]:
    """The text of every generated file as the code and the golden examples of this folder give it."""
    files = (folder / EXAMPLES_FOLDER).glob("*.json")
    return documents({path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files})


def drift(folder: Path) -> list[str]:
    """A line for every committed document that differs from what the code gives, or that the code no longer gives."""
    wanted = current(folder)
    faults = [
        f"{name}: is not what the code gives"
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    present = {f"{SCHEMA_FOLDER}/{path.name}" for path in (folder / SCHEMA_FOLDER).glob("*.json")}
    return faults + [f"{name}: no message has this schema any more" for name in sorted(present - set(wanted))]


def incompatibilities(folder: Path) -> list[str]:
    """A line for every break of the released v1 by today's models."""
    today = models()
    faults: list[str] = []
    for path in sorted((folder / RELEASED_FOLDER).glob("*.json")):
        if path.stem not in today:
            faults.append(f"{path.stem}: removed")
            continue
        released = json.loads(path.read_text(encoding="utf-8"))
        faults += breaks(released, schema_of(today[path.stem]), name=path.stem)
    return faults


@contracts_app.command()
def generate(folder: Folder = HERE) -> None:
    """Write schema/v1/*.json, asyncapi.yaml and reference.md from the models and the examples."""
    texts = current(folder)
    for stale in (folder / SCHEMA_FOLDER).glob("*.json"):
        stale.unlink()
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    typer.echo(f"{len(texts)} documents written to {folder}")


@contracts_app.command()
def check(folder: Folder = HERE) -> None:
    """Fail if a committed document is out of date, or if the models break the released v1."""
    faults = drift(folder)
    broken = incompatibilities(folder)
    for line in (*faults, *broken):
        typer.echo(line, err=True)
    if faults:
        typer.echo("mend: run `dinrail contracts generate` and commit what it writes", err=True)
    if broken:
        typer.echo("mend: within v1 only optional fields may be added; a breaking change needs a v2 topic", err=True)
    if faults or broken:
        raise typer.Exit(1)
    typer.echo(f"{len(models())} messages: documents current, released v1 kept")


@contracts_app.command()
def release(folder: Folder = HERE) -> None:
    """Freeze today's schemas as the released v1 that later changes are held to; refused while they break it."""
    broken = incompatibilities(folder)
    if broken:
        typer.echo("\n".join(broken), err=True)
        raise typer.Exit(1)
    target = folder / RELEASED_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for name, model in models().items():
        (target / f"{name}.json").write_text(
            json.dumps(schema_of(model), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    typer.echo(f"{len(models())} schemas frozen in {target}")
