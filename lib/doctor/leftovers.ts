// Leftovers of the original, or of a router of ours that was killed.
import { existsSync } from "node:fs";
import { controlSocket, pidFile } from "../api/paths.ts";
import { FIREWALL } from "../host/firewall.ts";
import { installedForwarding } from "../host/forwarding/forwarding.ts";
import { BRIDGE } from "../host/names.ts";
import { describeMigration, findOriginal } from "../migration/migration.ts";
import { type Link, linkList } from "../netlink/link.ts";
import { tableList } from "../netlink/nftables/table.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { isVxlanLink } from "../overlay/datapath/links.ts";
import { isInstanceLocked } from "../router/instance.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";
import type { Fix } from "./fix.ts";

/** A router that runs, by the link that it forwards by: "vxlan-6784". */
export interface RunningRouter {
  readonly link: string;
}

const deletes = ({ name, index, kind }: Link): Fix => ({ action: "delete-link", link: name, index, kind });

/** `router`: ours, where it runs and answers. */
export function leftoverFindings(router: RunningRouter | undefined): Finding[] {
  using route = new NetlinkSocket(NETLINK_ROUTE);
  using nf = new NetlinkSocket(NETLINK_NETFILTER);
  const links = linkList(route);
  const running = router !== undefined || isInstanceLocked();
  const bridge = links.find(({ name }) => name === BRIDGE);
  const findings = [
    ...inTheWay(bridge),
    ...staleLinks(links, bridge, router, running),
    ...(running ? [] : [...staleFiles(), ...(bridge ? [] : staleFilter(nf))]),
  ];
  return [...(findings.length > 0 ? findings : [ok("leftovers", "no leftovers of a router that ended")])];
}

function inTheWay(bridge: Link | undefined): Finding[] {
  if (!bridge || bridge.kind === "bridge") return [];
  const kind = bridge.kind ?? "another device";
  return [
    problem(
      "leftovers",
      `link ${BRIDGE} is not a bridge but ${kind}: the router cannot start`,
      `'ip link del ${BRIDGE}', if nothing else uses it`,
      bridge.kind === undefined ? [] : [deletes(bridge)],
    ),
  ];
}

/** Links of a fast datapath that no router of ours uses: of another port, or without a bridge. */
function staleLinks(
  links: readonly Link[],
  bridge: Link | undefined,
  router: RunningRouter | undefined,
  running: boolean,
): Finding[] {
  const ours = links.filter(isVxlanLink);
  const used = ({ name }: Link) =>
    running ? router === undefined || name === router.link : bridge !== undefined;
  return ours
    .filter((link) => !used(link))
    .map((link) =>
      warning(
        "leftovers",
        `link ${link.name} is a leftover of a router that ended`,
        `'ip link del ${link.name}' removes it`,
        [deletes(link)],
      ),
    );
}

function staleFiles(): Finding[] {
  const files = [controlSocket(), pidFile()];
  // A router that was stopped leaves the second one, which does no harm.
  if (!existsSync(controlSocket())) return [];
  return [
    warning(
      "leftovers",
      `${controlSocket()} is a leftover of a router that was killed`,
      "'weave launch' replaces it",
      files
        .filter((file) => existsSync(file))
        .map((file) => ({ action: "remove-file", file, whileNoRouter: true })),
    ),
  ];
}

/** Rules of ours about a bridge that is not there. */
function staleFilter(nf: NetlinkSocket): Finding[] {
  const table = tableList(nf, FIREWALL.family).includes(FIREWALL.name);
  const variants = installedForwarding(nf);
  if (!table && variants.length === 0) return [];
  const what = [
    ...(table ? [`table ip ${FIREWALL.name}`] : []),
    ...variants.map((each) => `rules in ${each}`),
  ];
  return [
    warning(
      "leftovers",
      `${what.join(" and ")} of a router that ended, with its bridge`,
      "'weave launch' takes them over, 'weave reset' removes everything",
      [{ action: "remove-filter", table, variants }],
    ),
  ];
}

/** `running`: our router, which removes leftovers itself once it carries traffic. */
export function originalFindings(running: boolean): Finding[] {
  const original = findOriginal();
  if (!original) return [ok("original", "nothing of the original Weave Net is left")];
  const { links, rules, sets } = original.kernel;
  // With its state there, migrate instead of removing it.
  const over = original.file === undefined && !running;
  const removals: readonly Fix[] = [
    ...linksNamed(links).map(deletes),
    ...(rules.length + sets.length > 0 ? [{ action: "remove-original-rules", rules, sets } as const] : []),
  ];
  return [
    warning(
      "original",
      `leftovers of the original: ${describeMigration(original).join("; ")}`,
      "'weave migrate --dry-run' lists the steps, 'weave migrate' performs them",
      over ? removals : [],
    ),
  ];
}

function linksNamed(names: readonly string[]): Link[] {
  using route = new NetlinkSocket(NETLINK_ROUTE);
  return linkList(route).filter(({ name }) => names.includes(name));
}
