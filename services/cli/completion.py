"""What the shell offers where a command takes a name: out of the site's files, without asking anybody."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from services.cli.options import HERE
from services.cli.site import Site

_ENDS = (".yaml", ".yml", ".json")


def devices(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of devices."""
    return _beginning(incomplete, _stems(_site(ctx).devices))


def device_tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """DEVICE, and DEVICE/TAG once the device stands there."""
    folder = _site(ctx).devices
    device, slash, _ = incomplete.partition("/")
    if not slash:
        return _beginning(incomplete, _stems(folder))
    return _beginning(incomplete, (f"{device}/{tag}" for tag in _tags(folder, device)))


def tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tags of the device that stands before."""
    device = ctx.params.get("device")
    return _beginning(incomplete, _tags(_site(ctx).devices, str(device))) if device else []


def pipelines(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the pipelines in the site's folder."""
    return _beginning(incomplete, _stems(_site(ctx).pipelines))


def users(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of users."""
    known = _read(_site(ctx).users_file).get("users")
    return _beginning(incomplete, known if isinstance(known, dict) else ())


Pattern = Annotated[
    str, typer.Argument(help="DEVICE, TAG or DEVICE/TAG, with * and ? as in file names.", autocompletion=device_tags)
]


def _site(ctx: typer.Context) -> Site:
    return Site(Path(ctx.params.get("folder") or HERE))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _stems(folder: Path) -> Iterator[str]:
    """A file is called as what is in it. A folder that cannot be read has none."""
    try:
        yield from {path.stem for path in folder.iterdir() if path.suffix in _ENDS}
    except OSError:
        return


def _tags(folder: Path, device: str) -> Iterator[str]:
    for end in _ENDS:
        groups = _read(folder / f"{device}{end}").get("groups")
        for group in groups.values() if isinstance(groups, dict) else ():
            if isinstance(group, dict) and isinstance(group.get("tags"), dict):
                yield from map(str, group["tags"])


def _read(path: Path) -> dict[str, Any]:
    """The file's map; nothing if there is none: the shell is no place for errors."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
