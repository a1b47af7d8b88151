"""The address space of a server as offers for a device file (OPC 10000-4, 5.8.2), a level at a time."""

import math
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from contracts.v1.device import ValueType
from plugins.api.driver import DeviceError, Offer

from .address_space import Child, children, properties
from .config import STANDARD_NAMESPACE, NodeAddress, parse_node
from .kinds import obstacle, tag_type
from .limits import chunks
from .nodes import node_id
from .offered_method import ports_of
from .session import Session
from .values import readable

_NodeId: Any = ua.NodeId
_OBJECTS: ua.NodeId = _NodeId(ua.ObjectIds.ObjectsFolder)
_READ, _WRITE = 0x01, 0x02
_PROPERTIES = frozenset({"EngineeringUnits", "EURange", "EnumStrings", "InputArguments", "OutputArguments"})
_MOST_TEXTS = 16
_KINDS: Mapping[ua.NodeIdType, str] = {
    ua.NodeIdType.String: "s",
    ua.NodeIdType.Guid: "g",
    ua.NodeIdType.ByteString: "b",
}


@dataclass(frozen=True, slots=True)
class _Place:
    node: ua.NodeId
    path: tuple[str, ...]


class Browsing:
    """One walk through the address space; a node that can be reached by several ways is offered once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: set[ua.NodeId] = set()
        self._built_in: dict[ua.NodeId, ua.VariantType | None] = {}
        self._texts: dict[ua.NodeId, str] = {}

    async def offers(self, at: str | None, *, depth: int) -> AsyncGenerator[Offer, None]:
        """What lies below the node, the nearest first; see plugins.api.driver.Browses.

        at: None is Objects without what the standard itself puts there (Server, Aliases, ...), hundreds of nodes that
        are nothing of the machine.
        """
        start = self._start(at)
        self._seen.add(start)
        level = [_Place(start, ())]
        for depth_now in range(depth):
            below: list[_Place] = []
            for part in chunks(level, self._session.limits.browse):
                found = await children(self._session, [place.node for place in part], must_exist=depth_now == 0)
                fresh = [
                    (place, child)
                    for place, some in zip(part, found, strict=True)
                    for child in self._unseen(some)
                    if not (place.node == _OBJECTS and at is None and child.node.NamespaceIndex == 0)
                ]
                below += [
                    _Place(child.node, (*place.path, child.name)) for place, child in fresh if not child.is_method
                ]
                for few in chunks(fresh, self._session.limits.read):
                    for offer in await self._offers(few):
                        yield offer
            level = below

    def _start(self, at: str | None) -> ua.NodeId:
        if at is None:
            return _OBJECTS
        try:
            return node_id(parse_node(at), self._session.namespaces)
        except (LookupError, ValueError) as error:
            raise DeviceError(f"{self._session.url}: {error.args[0]}", cause="config") from None

    def _unseen(self, some: Sequence[Child]) -> Iterator[Child]:
        for child in some:
            if child.node not in self._seen:
                self._seen.add(child.node)
                yield child

    async def _offers(self, some: Sequence[tuple[_Place, Child]]) -> list[Offer]:
        """What the children are, in their order, in a few requests for all of them."""
        detailed = [child.node for _, child in some if not child.is_object]
        known = dict(zip(detailed, await properties(self._session, detailed, _PROPERTIES), strict=True))
        variables = [child.node for _, child in some if child.is_variable]
        facts = dict(zip(variables, await self._facts(variables), strict=True))
        offers = []
        for place, child in some:
            path, address = (*place.path, child.name), self.address(child.node)
            if child.is_variable:
                offers.append(await self._variable(path, address, facts[child.node], known[child.node]))
            elif child.is_method:
                offers.append(await self._method(path, address, self.address(place.node), known[child.node]))
            else:
                offers.append(Offer(path=path, address=str(address), kind="folder"))
        return offers

    async def _facts(self, nodes: Sequence[ua.NodeId]) -> list[tuple[Any, Any, Any]]:
        """Data type, value rank and access level of each."""
        ids = ua.AttributeIds
        columns = [
            await self._session.attributes(nodes, one) for one in (ids.DataType, ids.ValueRank, ids.UserAccessLevel)
        ]
        return list(zip(*columns, strict=True))

    async def _variable(
        self, path: tuple[str, ...], address: NodeAddress, facts: tuple[Any, Any, Any], known: Mapping[str, Any]
    ) -> Offer:
        data_type, rank, access = facts
        kind = await self.built_in(data_type) if data_type is not None else None
        array = rank is not None and int(rank) >= 0
        access = _READ if access is None else int(access)
        if kind is ua.VariantType.Variant:
            kind, array = await self._kind_now(address)
        shown = tag_type(kind, array=array) if kind is not None else None
        hindrance = "" if shown is not None else obstacle(kind, array=array)
        if not access & _READ:
            hindrance = "the server lets us not read it"
        unit, limits = known.get("EngineeringUnits"), known.get("EURange")
        return Offer(
            path=path,
            address=str(address),
            kind="variable",
            type=shown,
            unit=_text(unit.DisplayName) or None if isinstance(unit, ua.EUInformation) else None,
            range=_range(limits) if shown not in {ValueType.BOOL, ValueType.STRING, ValueType.ARRAY} else None,
            writable=bool(access & _WRITE),
            fields={"node": str(address)},
            obstacle=hindrance,
            note=_states(known.get("EnumStrings")) or await self._meanings(data_type, kind),
        )

    async def _method(
        self, path: tuple[str, ...], address: NodeAddress, owner: NodeAddress, known: Mapping[str, Any]
    ) -> Offer:
        ports, hindrance = await ports_of(
            path[-1], known.get("InputArguments"), known.get("OutputArguments"), self.built_in
        )
        return Offer(
            path=path,
            address=str(address),
            kind="method",
            fields={"object": str(owner), "method": str(address)},
            ports=ports,
            obstacle=hindrance,
        )

    async def _kind_now(self, address: NodeAddress) -> tuple[ua.VariantType | None, bool]:
        """The type of the value that a variable of an open type has at present."""
        node = node_id(address, self._session.namespaces)
        (variant,) = await self._session.variants([node])
        return (variant.VariantType, bool(variant.is_array)) if variant is not None else (None, False)

    async def built_in(self, data_type: ua.NodeId) -> ua.VariantType | None:
        """As Session.built_in, asked once per data type."""
        if data_type not in self._built_in:
            self._built_in[data_type] = await self._session.built_in(data_type)
        return self._built_in[data_type]

    async def _meanings(self, data_type: ua.NodeId | None, kind: ua.VariantType | None) -> str:
        """What the numbers of an enumeration mean; nothing of other types."""
        if data_type is None or kind is not ua.VariantType.Int32 or data_type.NamespaceIndex == 0:
            return ""
        if data_type not in self._texts:
            (known,) = await properties(self._session, [data_type], {"EnumStrings", "EnumValues"})
            self._texts[data_type] = _states(known.get("EnumStrings")) or _values(known.get("EnumValues"))
        return self._texts[data_type]

    def address(self, node: ua.NodeId) -> NodeAddress:
        """The node's address with the URI of its namespace."""
        spaces = self._session.namespaces
        index = node.NamespaceIndex
        named = spaces[index] if index < len(spaces) else ""
        uri = STANDARD_NAMESPACE if index == 0 else named or f"unknown:{index}"
        kind = _KINDS.get(node.NodeIdType, "i")
        return NodeAddress(uri, kind, identifier_text(node.Identifier))


def identifier_text(identifier: object) -> str:
    """As it stands in a node id's text."""
    return b64encode(identifier).decode() if isinstance(identifier, bytes) else str(identifier)


def _text(given: object) -> str:
    return readable(given.Text or "") if isinstance(given, ua.LocalizedText) else ""


def _range(given: object) -> tuple[float, float] | None:
    if not isinstance(given, ua.Range):
        return None
    low, high = float(given.Low), float(given.High)
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _states(given: object) -> str:
    texts = given if isinstance(given, list) else []
    return _listed((number, _text(text)) for number, text in enumerate(texts))


def _values(given: object) -> str:
    values = given if isinstance(given, list) else []
    return _listed((one.Value, _text(one.DisplayName)) for one in values if isinstance(one, ua.EnumValueType))


def _listed(meanings: Iterable[tuple[int, str]]) -> str:
    held = [f"{number} {text}" for number, text in meanings]
    return ", ".join(held[:_MOST_TEXTS]) + (", ..." if len(held) > _MOST_TEXTS else "")
