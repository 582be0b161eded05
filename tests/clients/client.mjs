// The TypeScript SDK against a server: client.mjs PACKAGES SDK KIND URL AGENTICORE
//
// SDK: 1 (@modelcontextprotocol/sdk) or 2 (@modelcontextprotocol/client, which picks the era itself).
// KIND: http, sse, bridge (`agenticore mcp`) or stdio (`agenticore serve` with AGENTICORE_TRANSPORT=stdio).
import assert from "node:assert/strict";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const [packages, sdk, kind, url, agenticore] = process.argv.slice(2);
const require = createRequire(packages + "/");
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const name = sdk === "1" ? "@modelcontextprotocol/sdk/client" : "@modelcontextprotocol/client";
const program = {
  command: agenticore,
  args: kind === "bridge" ? ["mcp", "--server", url] : ["serve"],
  env: process.env,
};

async function transport() {
  if (kind === "http") {
    const {StreamableHTTPClientTransport} = await load(sdk === "1" ? `${name}/streamableHttp.js` : name);
    return new StreamableHTTPClientTransport(new URL(url + "/mcp"));
  }
  if (kind === "sse") {
    const {SSEClientTransport} = await load(sdk === "1" ? `${name}/sse.js` : name);
    return new SSEClientTransport(new URL(url + "/sse"));
  }
  const {StdioClientTransport} = await load(sdk === "1" ? `${name}/stdio.js` : `${name}/stdio`);
  return new StdioClientTransport(program);
}

const {Client} = await load(sdk === "1" ? `${name}/index.js` : name);
const client = new Client({name: "test", version: "1"}, {versionNegotiation: {mode: "auto"}});
await client.connect(await transport());
const names = (await client.listTools()).tools.map((tool) => tool.name);
for (const wanted of ["run_task", "get_job", "list_jobs", "cancel_job", "list_profiles"]) {
  assert(names.includes(wanted), `${wanted} is missing among ${names}`);
}
const told = [];
const call = (name, args, options) => {
  const asked = {name, arguments: args};
  return sdk === "1" ? client.callTool(asked, undefined, options) : client.callTool(asked, options);
};
const onprogress = (progress) => told.push(progress);
const ran = await call("run_task", {task: "[[raw hello]] [[say done]]", wait: true}, {onprogress});
assert(!ran.isError && ran.structuredContent.job.output === "done", JSON.stringify(ran));
const steps = told.map((progress) => progress.progress);
assert(steps.length > 0 && steps.every((step, at) => at === 0 || step > steps[at - 1]), JSON.stringify(told));
assert((await call("get_job", {job_id: "nonsense"})).isError);
await assert.rejects(call("no_such_tool", {}), /there is no tool no_such_tool/);
console.log(kind, "is well:", names.length, "tools,", told.length, "progress messages");
await client.close();
process.exit(0);
