// A router of another host, in a process of its own: `bun childrouter.ts OPTIONS`, with the options as JSON and peers as the
// rest. It prints "ready", and ends with its standard input.
import { answerers } from "../../cmd/answerers.ts";
import { runInRouter } from "../../lib/cni/main.ts";
import { logTo } from "../../lib/log/log.ts";
import { parseOptions } from "../../lib/router/options.ts";
import { startRouter } from "../../lib/router/router.ts";
import { Scope } from "../../lib/sys/scope.ts";

const [options = "{}", ...peers] = process.argv.slice(2);
const scope = new Scope((what, error) => console.error(`cannot stop ${what}: ${error}`));
const log = logTo((level, text) => {
  if (level === "error" || level === "warning") console.error(`${level}: ${text}`);
});
await startRouter(parseOptions(JSON.parse(options), peers), { cni: runInRouter, answerers }, log, scope);
scope.start();
console.log("ready");
for await (const _ of process.stdin);
await scope.end();
process.exit(0);
