// weave stop.
import { runDirectory } from "../../lib/api/paths.ts";
import { Stopped } from "../../lib/api/shapes.ts";
import { stopDaemon } from "../../lib/router/daemon.ts";
import { runningPid } from "../../lib/router/instance.ts";
import { noteStopped } from "../../lib/router/targets.ts";
import { StoreError } from "../../lib/store/error.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import { answer, JSON_OPTION, remark } from "../answer.ts";
import type { Command } from "../arguments.ts";
import { requireRoot } from "../main.ts";
import { warn } from "../output/output.ts";
import { withProgress } from "../waiting.ts";

export const stop: Command = {
  name: "stop",
  group: "Life cycle",
  description: "Stop the router; the fast datapath keeps forwarding",
  options: JSON_OPTION,
  async run(args) {
    requireRoot();
    const pid = runningPid();
    const ending = `waiting for the router${pid === undefined ? "" : ` (pid ${pid})`} to end`;
    const stopped = await withProgress(args, stopDaemon(), ending);
    try {
      noteStopped();
    } catch (error) {
      if (!stopped && error instanceof StoreError && error.code === "locked")
        throw new Error(`no router runs in WEAVE_RUN_DIR ${runDirectory()}: ${error.message}`, {
          cause: error,
        });
      warn(
        `weave stop: cannot record the stop, so the next launch also uses the old targets: ${reasonOf(error)}`,
      );
    }
    if (!stopped) remark(args, "weave is not running");
    answer(
      args,
      Stopped,
      { stopped },
      stopped ? "stopped the router; the fast datapath keeps forwarding" : "",
    );
  },
};
