"""How the command `reload` is answered by a service that has plugins."""

from collections.abc import Awaitable, Callable, Sequence

from contracts.v1.command import ErrorCode, Reload, ReloadResult
from plugins.api.registry import PluginError
from services.runtime.bus.bus import CommandFailed


async def reload_asked(
    asked: Reload, *, kind: str, in_use: Sequence[str], reload: Callable[[str], Awaitable[str]]
) -> ReloadResult:
    """Loads the plugin that is asked for anew, or all that are in use; one that fails ends it.

    kind: what a plugin of the service is called. reload: gives the version; may raise PluginError.
    Raises CommandFailed: there is no such plugin, or it failed; `done` then names those before it.
    """
    wanted = asked.plugin
    if wanted is not None and wanted not in in_use:
        there = ", ".join(in_use) or "none"
        raise CommandFailed(ErrorCode.NOT_FOUND, f"no {kind} {wanted!r} is in use; there are: {there}")
    done: dict[str, str] = {}
    for plugin in in_use if wanted is None else [wanted]:
        try:
            done[plugin] = await reload(plugin)
        except PluginError as error:
            detail = {"plugin": plugin, "done": ", ".join(done)}
            raise CommandFailed(ErrorCode.INVALID, str(error), detail=detail) from error
    return ReloadResult(plugins=done)
