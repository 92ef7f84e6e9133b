// Variables of the addon's containers.
import type { AddonSettings } from "../addon.ts";

const NODE_NAME = {
  name: "HOSTNAME",
  valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "spec.nodeName" } },
};

/** Return those of the router; of the init container without the secret. */
export function environment(settings: AddonSettings, secret = settings["password-secret"]): object[] {
  const peers = settings["known-peers"];
  const given = Object.entries({
    ...(peers.length > 0 && { KUBE_PEERS: peers.join(" ") }),
    ...(settings["disable-npc"] && { EXPECT_NPC: "0" }),
    ...settings.env,
  });
  return [
    NODE_NAME,
    ...given.map(([name, value]) => ({ name, value })),
    ...(secret
      ? [{ name: "WEAVE_PASSWORD", valueFrom: { secretKeyRef: { name: secret, key: secret } } }]
      : []),
  ];
}

/** Return those of weave-npc: it reads LOG_LEVEL, WEAVE_LOG_FORMAT and where the API server is. */
export const npcEnvironment = ({ env }: AddonSettings): object[] => [
  NODE_NAME,
  ...Object.entries(env).map(([name, value]) => ({ name, value })),
];
