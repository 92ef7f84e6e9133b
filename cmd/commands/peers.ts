// weave connect, forget, prime, rmpeer.
import { apiClient } from "../../lib/api/client.ts";
import { type Command, UsageError } from "../main.ts";

/** Peers as the API takes them. */
export function peersForm(peers: readonly string[]): URLSearchParams {
  const form = new URLSearchParams();
  for (const peer of peers) form.append("peer", peer);
  return form;
}

export const connect: Command = {
  name: "connect",
  description: "connect to more peers",
  positionals: "PEERS…",
  options: {
    replace: { type: "boolean", default: false, description: "forget the peers there were before" },
  },
  async run({ options, positionals }) {
    if (positionals.length === 0 && !options["replace"]) throw new UsageError("name at least one peer");
    const form = peersForm(positionals);
    if (options["replace"]) form.set("replace", "true");
    await apiClient()("POST", "/connect", { form });
  },
};

export const forget: Command = {
  name: "forget",
  description: "no longer try to connect to peers; connections there are stay",
  positionals: "PEERS…",
  async run({ positionals }) {
    if (positionals.length === 0) throw new UsageError("name at least one peer");
    await apiClient()("POST", "/forget", { form: peersForm(positionals) });
  },
};

export const prime: Command = {
  name: "prime",
  description: "wait until the range has been divided among the peers",
  async run() {
    await apiClient()("GET", "/ring");
  },
};

export const rmpeer: Command = {
  name: "rmpeer",
  description: "take over the addresses of peers that are gone for good (by name or nickname)",
  positionals: "PEERS…",
  options: {
    force: {
      type: "boolean",
      default: false,
      description: "also from a connected peer: addresses that its containers still have are given out twice",
    },
  },
  async run({ options, positionals }) {
    if (positionals.length === 0) throw new UsageError("name at least one peer");
    const query = options["force"] ? "?force=true" : "";
    for (const peer of positionals) {
      process.stdout.write(await apiClient()("DELETE", `/peer/${encodeURIComponent(peer)}${query}`));
    }
  },
};
