// The official TypeScript SDK against a hub: lists, calls, prompts, resources, completions, progress.
//
//     node mcp_sdk.mjs MODULES http://127.0.0.1:8898/mcp      a hub with a dissection
//     node mcp_sdk.mjs MODULES -- wiretape-hub mcp FILE       over stdio
//
// MODULES is a folder below which npm has put the SDK. The SDK checks every structured answer against the tool's
// output schema. Prints a line for each check; fails at the first that does not hold.

import { createRequire } from "node:module";

const [modules, ...target] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

// Tools of the contract that this hub has no use for: they say what to do instead.
const REFUSED = new Set(["get_cloud_job_status"]);

function check(what, holds) {
  console.log((holds ? "ok   " : "FAIL ") + what);
  if (!holds) process.exit(1);
}

function transport() {
  if (target[0] === "--") {
    return new StdioClientTransport({ command: target[1], args: target.slice(2), stderr: "ignore" });
  }
  return new StreamableHTTPClientTransport(new URL(target[0]));
}

// Over stdio a file may still be on its way to calls.
async function ready(client) {
  let status;
  for (let look = 0; look < 300; look++) {
    status = (await client.callTool({ name: "get_snapshot_dissection_status", arguments: {} })).structuredContent;
    if (!status.active) break;
    await new Promise((wake) => setTimeout(wake, 100));
  }
  return status;
}

async function talk(mode) {
  const client = new Client({ name: "wiretape-test", version: "1" }, { versionNegotiation: { mode } });
  await client.connect(transport());
  console.log(`--   ${mode}: revision ${client.getNegotiatedProtocolVersion()}`);
  check("it says who it is", client.getServerVersion().name === "wiretape");
  check("it has instructions", client.getInstructions().includes("investigate"));
  const status = await ready(client);
  check(`a dissection is there (${status.status})`, status.status === "completed");

  const { tools } = await client.listTools();
  check(`${tools.length} tools with both schemas`, tools.every((tool) => tool.inputSchema && tool.outputSchema));
  const first = await client.callTool({ name: "list_api_calls", arguments: { limit: "3" } });
  const calls = first.structuredContent.calls;
  check("a number may be a text", !first.isError && calls.length === 3);
  const given = {
    get_snapshot: { id: status.snapshot_id },
    export_snapshot_pcap: { id: status.snapshot_id, bpf_filter: "tcp" },
    get_api_call: { id: calls[0].id },
    get_api_call_details: { id: calls[0].id, include_payload: "true" },
    export_pcap: { kfl: `src.port == ${calls[0].src.port}` },
    explain_kfl: { kfl: "http and status >= 500" },
    query_sql: { sql: "SELECT protocol, count(*) AS calls FROM calls GROUP BY protocol" },
  };
  for (const { name } of tools.filter((tool) => tool.annotations.readOnlyHint)) {
    const answer = await client.callTool({ name, arguments: given[name] ?? {} });
    const told = REFUSED.has(name) ? answer.isError : !answer.isError && answer.structuredContent;
    check(`${name}: ${answer.content[0].text.slice(0, 90)}`, told);
  }
  const steps = [];
  const asked = { name: "investigate", arguments: { snapshot_id: status.snapshot_id } };
  const found = await client.callTool(asked, { onprogress: (step) => steps.push(step) });
  check(`investigate: ${found.content[0].text.slice(0, 90)}`, found.structuredContent.status === "completed");
  check("its progress is heard", steps.length > 0);
  const wrong = await client.callTool({ name: "list_api_calls", arguments: { kfl: "no.such.field == 1" } });
  check("an error is an answer", wrong.isError && wrong.content[0].text.includes("no.such.field"));

  const { prompts } = await client.listPrompts();
  for (const prompt of prompts) {
    const filled = Object.fromEntries((prompt.arguments ?? []).map((argument) => [argument.name, "x"]));
    const told = await client.getPrompt({ name: prompt.name, arguments: filled });
    check(`prompt ${prompt.name}`, told.messages[0].content.text.length > 200);
  }
  const completed = await client.complete({
    ref: { type: "ref/prompt", name: "find_errors" },
    argument: { name: "kfl", value: "response.stat" },
  });
  check("arguments are completed", completed.completion.values.includes("response.status"));
  const { resources } = await client.listResources();
  for (const { uri } of resources) {
    const read = await client.readResource({ uri });
    check(`resource ${uri}`, read.contents.length === 1);
  }
  const { resourceTemplates } = await client.listResourceTemplates();
  check("templates", resourceTemplates.length === 3);
  await client.close();
}

for (const mode of ["legacy", "auto"]) await talk(mode);
