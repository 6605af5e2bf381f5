// One session of the second generation of the TypeScript SDK's client: node client2.mjs http|sse URL.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [kind, url] = process.argv.slice(2);
const Transport = kind === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
const client = new Client({ name: "typescript-2", version: "1" }, { capabilities: { elicitation: {} } });
client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: { name: "ada" } }));
await client.connect(new Transport(new URL(url)));

const call = async (action, text) =>
  (await client.callTool({ name: "do", arguments: { action, text } })).content[0].text;
const seen = {
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  echoed: [await call("echo", "x"), await call("echo", "x"), await call("echo", "x")],
  elicited: [await call("elicit", "?"), await call("elicit", "?"), await call("elicit", "?")],
};
console.log(JSON.stringify(seen));
await client.close();
