// weave ui: where the status page is.
import { hostname } from "node:os";
import * as v from "valibot";
import { joinHostPort } from "../../lib/address/hostport.ts";
import { apiClient } from "../../lib/api/client.ts";
import { Page } from "../../lib/api/shapes.ts";
import { printable } from "../../lib/log/printable.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import type { Command } from "../arguments.ts";

const Places = v.array(v.object({ host: v.string(), port: v.number() }));
const UNSPECIFIED = ["0.0.0.0", "::", "[::]"];

export const ui: Command = {
  name: "ui",
  group: "Troubleshooting",
  description: "Print the address of the status page",
  details: [
    "The page shows a live map of peers, addresses, containers, policies and events. It is read-only, and served by the router at --http-addr and --status-addr. Its second line is the command that brings it to another machine.",
  ],
  options: JSON_OPTION,
  examples: [
    { command: "xdg-open $(weave ui --json | jq -r .url)", does: "Open it in a browser on this host" },
  ],
  async run(args) {
    const [place] = v.parse(Places, JSON.parse(await apiClient()("GET", "/ui/places")));
    if (!place)
      throw new Error(
        "the status page is served nowhere: launch without an empty --http-addr, or with --status-addr",
      );
    const host = UNSPECIFIED.includes(place.host) ? "127.0.0.1" : place.host;
    const at = joinHostPort(host, place.port);
    const tunnel = `ssh -L ${place.port}:${at} root@${reachedAt()}`;
    const url = `http://${at}/ui/`;
    answer(
      args,
      Page,
      { url, tunnel },
      `${url}\nfrom another machine: ${tunnel}, then http://127.0.0.1:${place.port}/ui/`,
    );
  },
};

/** Return the address by which the user reached this host over SSH, else the host name. */
function reachedAt(): string {
  // "CLIENT PORT SERVER PORT", see sshd(8).
  const server = process.env["SSH_CONNECTION"]?.split(" ")[2];
  return server ? printable(server) : hostname();
}
