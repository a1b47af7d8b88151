"""The plant's OPC UA server: the pasteuriser and the cell controller beside it."""

from collections.abc import Sequence
from datetime import UTC

from asyncua import ua
from asyncua.common.callback import CallbackType, ServerItemCallback
from asyncua.common.node import Node as ServerNode
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from examples.plant.exchange import Exchange, Held
from examples.plant.model import Plant
from examples.plant.signals import NAMESPACE, NODES, Node
from plugins.api.served import Served
from plugins.drivers.opcua.simulator import stop_quickly
from plugins.drivers.opcua.values import NODE_TYPES

SENSOR = "Pasteuriser.Temperature"
PATH = "/plant"


class PlantOpcUaServer(Served):
    """Serves the model's variables while entered. refresh() carries the model over, writes come back at once."""

    def __init__(self, *, plant: Plant, host: str, port: int) -> None:
        self._plant = plant
        self._host = host
        self._exchange: Exchange[Node] = Exchange(plant=plant, signals=NODES)
        self._server = Server()
        self._server.set_endpoint(f"opc.tcp://{host}:{port}{PATH}")
        self._server.set_server_name("dinrail demo plant")
        # Without a certificate there is nothing to offer but this; the demo listens on this machine only.
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self._ids: dict[Node, ua.NodeId] = {}
        self._nodes: dict[ua.NodeId, Node] = {}

    async def start(self) -> None:
        """Begins to serve what the model has now. Raises OSError if the port is taken."""
        await self._server.init()
        await self._add_variables()
        await self.refresh()
        self._server.subscribe_server_callback(CallbackType.PostWrite, self._written)
        await self._server.start()

    async def stop(self) -> None:
        """Serves no more."""
        await stop_quickly(self._server)

    @property
    def url(self) -> str:
        """Where it listens."""
        port = self._server.bserver.port if self._server.bserver else 0
        return f"opc.tcp://{self._host}:{port}{PATH}"

    async def refresh(self) -> None:
        """Carries what has changed in the model to the variables."""
        now = ua.DateTime.now(UTC)
        for node, value in self._exchange.changes():
            await self._server.write_attribute_value(self._ids[node], self._data_value(node, value, now))

    def _data_value(self, node: Node, value: Held, now: ua.DateTime) -> ua.DataValue:
        failed = node.name == SENSOR and self._plant.faults.bad_status
        status = ua.StatusCode(ua.UInt32(StatusCodes.BadSensorFailure if failed else StatusCodes.Good))
        return ua.DataValue(ua.Variant(value, NODE_TYPES[node.type]), status, now)

    async def _add_variables(self) -> None:
        space = await self._server.register_namespace(NAMESPACE)
        folders: dict[Sequence[str], ServerNode] = {(): self._server.nodes.objects}
        for node, value in self._exchange.changes():
            *owners, name = node.name.split(".")
            for depth in range(len(owners)):
                path = tuple(owners[: depth + 1])
                if path not in folders:
                    identifier = _identifier(".".join(path), space)
                    folders[path] = await folders[path[:-1]].add_object(identifier, f"{space}:{path[-1]}")
            identifier = _identifier(node.name, space)
            variable = await folders[tuple(owners)].add_variable(
                identifier, f"{space}:{name}", value, NODE_TYPES[node.type]
            )
            if node.writable:
                await variable.set_writable()
            self._ids[node], self._nodes[identifier] = identifier, node

    def _written(self, event: ServerItemCallback, _dispatcher: object) -> None:
        if not event.is_external:
            return
        for request, result in zip(event.request_params.NodesToWrite, event.response_params, strict=True):
            node = self._nodes.get(request.NodeId)
            if node and request.AttributeId == AttributeIds.Value and result.is_good():
                self._exchange.take(node, request.Value.Value.Value)


def _identifier(name: str, space: int) -> ua.NodeId:
    return ua.NodeId(ua.String(name), ua.Int16(space))
