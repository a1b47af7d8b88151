"""A folder of definitions, one file per pipeline: each checked with all the others beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from contracts.v1.definition import Definition
from contracts.v1.pipeline import MAX_TEXT
from plugins.api.document import DocumentError, Fault
from services.orchestrator.definition.catalogue import Catalogue
from services.orchestrator.definition.definition_file import DefinitionFile, read_definition
from services.orchestrator.definition.validation import check_file

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_BYTES_PER_CHARACTER = 4


@dataclass(frozen=True, slots=True)
class Pipelines:
    """What a folder holds. definitions: without fault, by name. texts: of these. faults: all."""

    definitions: Mapping[str, Definition]
    texts: Mapping[str, str]
    faults: tuple[Fault, ...]


def pipeline_paths(folder: Path) -> list[Path]:
    """The files of definitions in a folder, in order of name; none if there is no such folder. Raises OSError."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def load_pipelines(paths: Iterable[Path], catalogue: Catalogue) -> Pipelines:
    """Reads and checks these files. catalogue: devices, functions, and the pipelines that are live already.

    Each is checked beside the others; of one that has faults what is live stands, and if nothing is, itself. Faults are
    collected, never raised. Of two files with one pipeline the first stands.
    """
    faults: list[Fault] = []
    texts: dict[Path, str] = {}
    files: dict[Path, DefinitionFile] = {}
    for path in paths:
        try:
            texts[path] = read_text(path)
            files[path] = read_definition(texts[path], source=str(path))
        except DocumentError as error:
            faults += error.faults
    owners = _owners(files, faults)
    while wrong := _wrong(files, owners, catalogue):
        faults += chain.from_iterable(wrong.values())
        files = {path: file for path, file in files.items() if path not in wrong}
        stay = {name for name, (path, _) in owners.items() if path in wrong} & catalogue.pipelines.keys()
        owners = {name: owner for name, owner in owners.items() if name not in stay}
        if not stay:
            break
    right = {name: owner for name, owner in owners.items() if owner[0] in files}
    return Pipelines(
        definitions={name: definition for name, (_, definition) in right.items()},
        texts={name: texts[path] for name, (path, _) in right.items()},
        faults=tuple(sorted(faults)),
    )


def _wrong(
    files: Mapping[Path, DefinitionFile], owners: Mapping[str, tuple[Path, Definition]], catalogue: Catalogue
) -> dict[Path, tuple[Fault, ...]]:
    """The files with faults, each checked with all the others and with what is live beside them."""
    together = {name: definition for name, (_, definition) in owners.items()}
    catalogue = replace(catalogue, pipelines={**catalogue.pipelines, **together})
    checked = {path: check_file(file, catalogue=catalogue) for path, file in files.items()}
    return {path: one.faults for path, one in checked.items() if one.faults}


def read_text(path: Path) -> str:
    """The text of a file. Raises DocumentError."""
    try:
        if path.stat().st_size > _BYTES_PER_CHARACTER * MAX_TEXT:
            raise DocumentError([Fault(str(path), 1, "", "is too long for a pipeline", "split it into several")])
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        mend = "save it as readable UTF-8 text"
        raise DocumentError([Fault(str(path), 1, "", f"cannot be read: {reason}", mend)]) from None


def _owners(files: Mapping[Path, DefinitionFile], faults: list[Fault]) -> dict[str, tuple[Path, Definition]]:
    """The file of each pipeline; of a file that names no pipeline nothing is known."""
    found: dict[str, tuple[Path, Definition]] = {}
    for path, file in files.items():
        if file.definition is None or ("pipeline",) in file.broken:
            continue
        name = file.definition.pipeline
        if name in found:
            mend = "give each pipeline one file and a name of its own"
            faults.append(file.document.fault(("pipeline",), f"{name!r} is taken by {found[name][0]}", mend))
        else:
            found[name] = (path, file.definition)
    return found
