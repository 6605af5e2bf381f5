// One session of the TypeScript SDK's client: node client.mjs http|sse URL. Prints what it saw as JSON.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema, ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const [kind, url] = process.argv.slice(2);
const Transport = kind === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
const client = new Client({ name: "typescript", version: "1" }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, async () => ({ action: "accept", content: { name: "ada" } }));
const changed = new Promise((resolve) =>
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => resolve(true)),
);
await client.connect(new Transport(new URL(url)));

const call = async (action, text, options) => {
  const params = { name: "do", arguments: { action, text } };
  return (await client.callTool(params, undefined, options)).content[0].text;
};
const steps = [];
const seen = {
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  echoed: [await call("echo", "x"), await call("echo", "x"), await call("echo", "x")],
  elicited: [await call("elicit", "?"), await call("elicit", "?"), await call("elicit", "?")],
  counted: await call("count", "3", { onprogress: (progress) => steps.push(progress.progress) }),
  announced: await call("announce", ""),
  changed: await changed,
  failed: (await client.callTool({ name: "do", arguments: { action: "fail", text: "no" } })).isError,
};
console.log(JSON.stringify({ ...seen, steps }));
await client.close();
