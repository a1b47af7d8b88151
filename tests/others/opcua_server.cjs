// An OPC UA server that is not built on the library of our driver: node-opcua. Speaks one JSON object a line:
// prints {"url": ...} when it listens; reads {"set": {name: value}}, {"remove": name}, {"add": [name, value]}, {"put":
// [name, value]} (instead of what there is), {"expire": null} (ends every session), {"watched": null} (subscriptions and
// monitored items of each session), {"calls": null} (how often the method was called); answers each with {"done": ...}.
const [, , port, folder, rate] = process.argv;
const {
  OPCUAServer, Variant, DataType, VariantArrayType, StatusCodes, MessageSecurityMode, SecurityPolicy,
  OPCUACertificateManager, standardUnits,
} = require("node-opcua");

async function main() {
  const manager = new OPCUACertificateManager({ rootFolder: folder, automaticallyAcceptUnknownCertificate: true });
  await manager.initialize();
  const server = new OPCUAServer({
    hostname: "127.0.0.1",
    port: Number(port),
    serverCertificateManager: manager,
    userCertificateManager: manager,
    alternateHostname: ["127.0.0.1", "localhost"],
    serverInfo: { applicationUri: "urn:node-opcua:test" },
    securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep, SecurityPolicy.Aes256_Sha256_RsaPss],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    userManager: { isValidUser: (name, password) => name === "anna" && password === "geheim" },
    serverCapabilities: {
      maxSessions: 4,
      operationLimits: { maxNodesPerRead: 20, maxNodesPerWrite: 20, maxNodesPerBrowse: 7, maxMonitoredItemsPerCall: 9 },
    },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const own = space.registerNamespace("urn:dinrail:others");
  const plant = own.addFolder(space.rootFolder.objects, { browseName: "Plant" });
  const held = new Map();
  const add = (name, dataType, value, more = {}) => {
    const array = Array.isArray(value);
    const node = (more.analog ? own.addAnalogDataItem : own.addVariable).call(own, {
      componentOf: more.below ?? plant, browseName: name, nodeId: `s=${name}`, dataType: more.type ?? DataType[dataType],
      valueRank: array ? 1 : -1, minimumSamplingInterval: 10,
      accessLevel: "CurrentRead | CurrentWrite", userAccessLevel: "CurrentRead | CurrentWrite", ...(more.analog ?? {}),
      value: { dataType: DataType[dataType], arrayType: array ? VariantArrayType.Array : VariantArrayType.Scalar, value },
    });
    held.set(name, [node, dataType]);
    return node;
  };
  add("Speed", "Double", 1.5, { analog: { engineeringUnitsRange: { low: 0, high: 200 }, engineeringUnits: standardUnits.degree_celsius } });
  add("Ratio", "Float", 0.5);
  add("Count", "UInt16", 7);
  add("Running", "Boolean", true);
  add("Recipe", "String", "Cola");
  add("Title", "LocalizedText", { text: "Filler", locale: "en" });
  add("Since", "DateTime", new Date("2026-01-02T03:04:05.123Z"));
  add("Batch", "Guid", "72962B91-FA75-4AE6-8D28-B404DC7DAF63");
  add("Blob", "ByteString", Buffer.from("abc"));
  add("Profile", "Double", [1, 2, 3]);
  const mode = own.addEnumerationType({ browseName: "Mode", enumeration: ["Idle", "Running", "Fault"] });
  add("State", "Int32", 1, { type: mode.nodeId });
  for (let n = 0; n < 60; n++) add(`Bulk${n}`, "Int32", n);
  const structure = space.constructExtensionObject(space.findDataType("Range"), { low: 1, high: 2 });
  const limits = own.addVariable({ componentOf: plant, browseName: "Limits", nodeId: "s=Limits", dataType: "Range" });
  limits.setValueFromSource({ dataType: DataType.ExtensionObject, value: structure });
  const machine = own.addObject({ componentOf: plant, browseName: "Machine", nodeId: "s=Machine" });
  const method = own.addMethod(machine, {
    nodeId: "s=Machine.Scale", browseName: "Scale",
    inputArguments: [{ name: "Value", dataType: DataType.Float }, { name: "Times", dataType: DataType.Int16 }],
    outputArguments: [{ name: "Result", dataType: DataType.Double }],
  });
  let calls = 0;
  method.bindMethod((inputs, _context, callback) => {
    calls += 1;
    const right = inputs[0].dataType === DataType.Float && inputs[1].dataType === DataType.Int16;
    const bad = !right || inputs[1].value < 0;
    callback(null, bad ? { statusCode: StatusCodes.BadOutOfRange } : {
      statusCode: StatusCodes.Good,
      outputArguments: [{ dataType: DataType.Double, value: inputs[0].value * inputs[1].value }],
    });
  });
  await server.start();
  if (rate) {
    const many = Array.from({ length: 1000 }, (_, n) => add(`Fast${n}`, "Double", 0));
    let tick = 0;
    setInterval(() => { tick += 1; for (const node of many) node.setValueFromSource({ dataType: DataType.Double, value: tick }); }, 1000 / Number(rate));
  }
  const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");
  const orders = {
    set: (values) => { for (const [name, value] of Object.entries(values)) { const [node, kind] = held.get(name); node.setValueFromSource({ dataType: DataType[kind], arrayType: Array.isArray(value) ? VariantArrayType.Array : VariantArrayType.Scalar, value }); } },
    remove: (name) => { space.deleteNode(held.get(name)[0]); },
    add: ([name, value]) => { add(name, "Double", value); },
    put: ([name, value]) => { if (held.has(name)) space.deleteNode(held.get(name)[0]); add(name, "Double", value); },
    expire: () => { for (const session of Object.values(server.engine._sessions)) server.engine.closeSession(session.authenticationToken, true, "Forcing"); },
    watched: () => Object.values(server.engine._sessions).map((session) => [session.currentSubscriptionCount, session.currentMonitoredItemCount]),
    calls: () => calls,
  };
  require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const [[order, given]] = Object.entries(JSON.parse(line));
    tell({ done: orders[order](given) ?? null });
  }).on("close", () => process.exit(0));
  tell({ url: `opc.tcp://127.0.0.1:${port}` });
}
main().catch((error) => { console.error(error); process.exit(1); });
