"""Node ids of the running session: a namespace's index holds only until the server starts again."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from asyncua import ua

from plugins.api.driver import DeviceError

from .config import STANDARD_NAMESPACE, NodeAddress

_NodeId: Any = ua.NodeId  # takes plain Python values, whatever its annotations say
_KINDS: Mapping[str, Callable[[str, int], ua.NodeId]] = {
    "i": lambda text, index: _NodeId(int(text), index),
    "s": _NodeId,
    "g": lambda text, index: _NodeId(UUID(text), index),
    "b": lambda text, index: _NodeId(b64decode(text, validate=True), index),
}
_NOWHERE = _NodeId("no such namespace", 65535)
"""Stands for a node whose namespace the server lacks: it says of it what it says of every node that is missing."""


def node_id(address: NodeAddress, namespaces: Sequence[str]) -> ua.NodeId:
    """The node id with today's index. Raises LookupError without such a namespace, ValueError on a bad identifier."""
    if address.uri == STANDARD_NAMESPACE:
        index = 0
    elif address.uri in namespaces:
        index = namespaces.index(address.uri)
    else:
        raise LookupError(f"no namespace {address.uri!r}; it has: {', '.join(sorted(namespaces)) or 'none'}")
    try:
        return _KINDS[address.kind](address.identifier, index)
    except (ValueError, Base64Error) as error:
        raise ValueError(f"{address} is no node id: {error}") from None


class AddressBook:
    """The node id of each of these by name. One whose namespace is missing is looked up again, see look_again().

    missing: why a name has no node id, by name. looked: how often it was looked; until it changes, no node id does.
    Raises DeviceError, cause config, where not one can be found.
    """

    def __init__(
        self,
        addresses: Mapping[str, NodeAddress],
        *,
        url: str,
        namespaces: Sequence[str],
        read_namespaces: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        self._addresses = addresses
        self._read_namespaces = read_namespaces
        self._ids: dict[str, ua.NodeId] = {}
        self.missing: dict[str, str] = {}
        self.looked = 0
        self._fill(addresses, namespaces)
        if addresses and len(self.missing) == len(addresses):
            raise DeviceError(f"{url} has {next(iter(self.missing.values()))}", cause="config")

    def __getitem__(self, name: str) -> ua.NodeId:
        return self._ids[name]

    async def look_again(self) -> None:
        """Asks for the namespaces anew if one was missing. Raises DeviceError."""
        if self.missing:
            self._fill(dict(self.missing), await self._read_namespaces())
            self.looked += 1

    def _fill(self, names: Mapping[str, object], namespaces: Sequence[str]) -> None:
        for name in names:
            try:
                self._ids[name] = node_id(self._addresses[name], namespaces)
                self.missing.pop(name, None)
            except (LookupError, ValueError) as error:
                self._ids[name] = _NOWHERE
                self.missing[name] = str(error.args[0])
