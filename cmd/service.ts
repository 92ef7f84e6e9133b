// Options for the paths of the systemd service and its settings.
import { installService, serviceSteps } from "../lib/deploy/service.ts";
import type { OptionTable } from "../lib/help/spec.ts";
import { runningPid } from "../lib/router/instance.ts";
import { executable } from "../lib/sys/executable.ts";
import type { Arguments } from "./arguments.ts";
import { ROUTER_OPTIONS } from "./routeroptions.ts";

export const SERVICE_FILES = {
  "systemd-dir": {
    type: "string",
    default: "/etc/systemd/system",
    description: "Folder of systemd's units",
    valueHint: "DIR",
    completes: "folders",
  },
  "systemd-env": {
    type: "string",
    default: "/etc/default/weave",
    description: "Settings of the service",
    valueHint: "FILE",
    completes: "files",
  },
} as const;

const TABLE: OptionTable = ROUTER_OPTIONS;
export const SETTINGS = Object.entries(TABLE).flatMap(([name, { env, envOff, description }]) => [
  ...(env === undefined ? [] : [{ variable: env, description }]),
  ...(envOff === undefined ? [] : [{ variable: envOff, description: `1 for --no-${name}` }]),
]);

const files = (options: Arguments["options"]) => ({
  units: String(options["systemd-dir"]),
  environment: String(options["systemd-env"]),
});

export const install = (options: Arguments["options"]) =>
  installService(files(options), executable("weave-router"), SETTINGS, runningPid() !== undefined);

export const stepsToRemove = (options: Arguments["options"]) => serviceSteps(files(options), SETTINGS);
