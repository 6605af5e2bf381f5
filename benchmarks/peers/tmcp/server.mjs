// The echo tool on tmcp, sessions in memory: `server.mjs PORT`. Wired as its README says.
import * as http from 'node:http';
import { createRequestListener } from '@remix-run/node-fetch-server';
import { ValibotJsonSchemaAdapter } from '@tmcp/adapter-valibot';
import { HttpTransport } from '@tmcp/transport-http';
import { McpServer } from 'tmcp';
import * as v from 'valibot';

const server = new McpServer(
	{ name: 'benchmark', version: '1', description: 'echo' },
	{ adapter: new ValibotJsonSchemaAdapter(), capabilities: { tools: {} } },
);

server.tool(
	{ name: 'echo', description: 'Return the text.', schema: v.object({ text: v.string() }) },
	async ({ text }) => ({ content: [{ type: 'text', text }] }),
);

const transport = new HttpTransport(server, { allowedOrigins: [] });
const answer = async (request) => (await transport.respond(request)) ?? new Response(null, { status: 404 });
http.createServer(createRequestListener(answer)).listen(Number(process.argv[2]), '127.0.0.1');
