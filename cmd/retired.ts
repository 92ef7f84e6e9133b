// Commands of Weave Net 2.x that were removed, and their replacements.

const LAUNCH = "'weave launch' starts everything";
const PROXY = "there is no Docker proxy: containers with WEAVE_CIDR are attached when they start";
const CONTAINER = "start the container with docker or podman, and -e WEAVE_CIDR=net:default";
const PLUGIN = "Docker's networks are served where Docker is; 'weave launch --no-docker-plugin' ends that";

const RETIRED: Readonly<Record<string, string>> = {
  run: CONTAINER,
  start: CONTAINER,
  restart: CONTAINER,
  env: PROXY,
  config: PROXY,
  "proxy-args": PROXY,
  "launch-router": LAUNCH,
  "launch-proxy": `${LAUNCH}; ${PROXY}`,
  "launch-plugin": `${LAUNCH}; ${PLUGIN}`,
  "stop-router": "'weave stop' stops everything",
  "stop-proxy": PROXY,
  "stop-plugin": PLUGIN,
  "setup-cni": "'weave setup' installs the CNI plugin",
  "docker-bridge-ip": "'ip -4 address show docker0' prints it",
  "attach-bridge": "Docker's bridge is not used",
  "bridge-type": "there is one type: 'weave status' names the overlay",
  local: "leave it out: every command runs on this host",
};

/** Removed commands of Weave Net 2.x. */
export const RETIRED_COMMANDS: readonly string[] = Object.keys(RETIRED);

/** Return the replacement of a removed command of Weave Net 2.x; undefined for other words. */
export function retired(word: string): string | undefined {
  const instead = Object.hasOwn(RETIRED, word) ? RETIRED[word] : undefined;
  return instead === undefined ? undefined : `'weave ${word}' of Weave Net 2.x was removed: ${instead}`;
}
