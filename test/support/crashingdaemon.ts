// A daemon whose timer fails soon after each start: what weave-router and weave-npc do then.
import { reportCrashes, runLoggedDaemon, surviveCrashes } from "../../cmd/shutdown.ts";
import { CrashReporter } from "../../lib/api/crashes.ts";
import { createLog } from "../../lib/log/log.ts";
import { surviveUnexpectedErrors } from "../../lib/log/unexpected.ts";

function failInTimer(): void {
  const error = new Error("a fault of ours");
  if (process.argv[2] === "reject") void Promise.reject(error);
  else throw error;
}

const log = createLog("info");
await runLoggedDaemon(log, "nothing stays", async (scope, restart) => {
  const crashes = new CrashReporter("weave-npc", log);
  surviveCrashes(crashes, log, () => []);
  surviveUnexpectedErrors(log, restart, reportCrashes(crashes, restart));
  crashes.state = () => ({ known: "something" });
  scope.defer("the part", () => log.info("the part has stopped"));
});
console.log(`ready ${process.pid}`);
setTimeout(failInTimer, 20);
setInterval(() => {}, 1000);
