// Outcome of a launch: name, range and overlay of this host, and the state of each target.
import * as v from "valibot";
import { splitHostPort } from "../address/hostport.ts";
import type { ApiClient } from "../api/client.ts";
import type { Launched, LaunchedPeer, Shape } from "../api/shapes.ts";
import { type Clock, sleep } from "../clock/clock.ts";
import { printedLines } from "../log/printable.ts";
import type { Warning } from "./launcher.ts";

/** Time that launch gives peers to answer. */
export const PEERS_MS = 1_500;
/** First and longest pause between requests to the router, in ms; doubled each time, as an answer takes it several ms. */
const LOOK_MS = 25;
const MAX_LOOK_MS = 200;

const Peer = v.object({ Name: v.string(), NickName: v.string() });

const Target = v.object({
  Target: v.string(),
  Address: v.string(),
  State: v.picklist(["connected", "connecting", "refused", "failed", "unresolved", "self"]),
  Reason: v.string(),
  Advice: v.string(),
  Peer: v.optional(Peer),
});

const Started = v.object({
  router: v.object({
    Name: v.string(),
    NickName: v.string(),
    Encryption: v.boolean(),
    Overlay: v.object({ Kind: v.string() }),
  }),
  range: v.nullable(v.string()),
  targets: v.array(Target),
});

export type Started = v.InferOutput<typeof Started>;

// Leaves out the peers of the network, by far the longest part of a report.
const FORMAT =
  '{"router":{"Name":{{json .Router.Name}},"NickName":{{json .Router.NickName}},' +
  '"Encryption":{{json .Router.Encryption}},"Overlay":{{json .Router.Overlay}}},' +
  '"range":{{if .IPAM}}{{json .IPAM.Range}}{{else}}null{{end}},"targets":{{json .Router.TargetStates}}}';

/** Ask a router how it has started. Rejects as the client does. */
export async function askStarted(api: ApiClient): Promise<Started> {
  const text = await api("GET", `/report?format=${encodeURIComponent(FORMAT)}`);
  return v.parse(Started, JSON.parse(text));
}

/** Ask until no target is being dialled, for 1.5 s at most. */
export async function awaitPeers(ask: () => Promise<Started>, clock: Clock): Promise<Started> {
  const deadline = clock.now() + PEERS_MS;
  for (let pause = LOOK_MS; ; pause = Math.min(2 * pause, MAX_LOOK_MS)) {
    const started = await ask();
    if (clock.now() >= deadline || started.targets.every(({ State }) => State !== "connecting"))
      return started;
    await sleep(clock, Math.min(pause, deadline - clock.now()));
  }
}

/** Return the warnings of the router, each once, but for those that the state of a target tells. */
export function otherWarnings(warnings: readonly Warning[], { targets }: Started): string[] {
  const hostOf = (address = "") => splitHostPort(address)?.host;
  const said = targets.filter(({ Reason }) => Reason !== "");
  const isSaid = ({ target, address }: Warning) =>
    said.some((each) => each.Target === target || (address && hostOf(each.Address) === hostOf(address)));
  return [...new Set(warnings.filter((each) => !isSaid(each)).map(({ warning }) => warning))];
}

function launchedPeer({ Target, Address, State, Reason, Advice, Peer }: Started["targets"][number]) {
  return {
    peer: Target,
    address: Address || null,
    state: State === "failed" || State === "connecting" ? "no-answer" : State,
    name: Peer?.Name ?? null,
    nickname: Peer?.NickName ?? null,
    reason: Reason || null,
    advice: Advice || null,
  } satisfies Shape<typeof LaunchedPeer>;
}

/** Return the answer of launch. */
export function launchedShape(
  { router, range, targets }: Started,
  process: Pick<Shape<typeof Launched>, "pid" | "log" | "warnings">,
): Shape<typeof Launched> {
  return {
    ...process,
    name: router.Name,
    nickname: router.NickName,
    range,
    overlay: router.Overlay.Kind,
    encryption: router.Encryption,
    peers: targets.map(launchedPeer),
  };
}

/** True if a target names the address, with or without the port. */
const isNamed = (peer: string, address: string) => address === peer || address.startsWith(`${peer}:`);

/** Return the text about one target: one line or two. */
function peerLines({ peer, address, state, name, nickname, reason, advice }: Shape<typeof LaunchedPeer>) {
  const who = name === null ? "" : ` ${name}(${nickname})`;
  const at = address === null || isNamed(peer, address) ? "" : ` at ${address}`;
  switch (state) {
    case "connected":
      return [`connected to${who}${at}`];
    case "refused":
      return [`refused${at}: ${reason}`, ...(advice === null ? [] : [advice])];
    case "self":
      return ["this host itself"];
    case "unresolved":
      return [`the name does not resolve yet: ${reason}`, ...(advice === null ? [] : [advice])];
    default:
      return [
        `no answer yet${at}${reason === null ? "" : `: ${reason}`}; dialled until it answers`,
        ...(advice === null ? [] : [advice]),
      ];
  }
}

/** Return the text of launch. */
export function launchedText(launched: Shape<typeof Launched>): string {
  const { pid, log, name, nickname, range, overlay, encryption, peers } = launched;
  const width = Math.max(...peers.map(({ peer }) => peer.length), 0);
  const rows = peers.flatMap((each) =>
    peerLines(each).map((line, i) => `${(i === 0 ? each.peer : "").padEnd(width)}  ${line}`),
  );
  const listed = rows.length > 0 ? rows : ["none named; others may connect to this host"];
  const isAlone =
    peers.some(({ state }) => state !== "self") && !peers.some(({ state }) => state === "connected");
  return printedLines([
    `weave is running (pid ${pid}, log ${log})`,
    `  name     ${name}(${nickname})`,
    `  range    ${range ?? "none: addresses are those that are named"}`,
    `  overlay  ${overlay}; ${encryption ? "encrypted" : "not encrypted"}`,
    ...listed.map((row, i) => `${i === 0 ? "  peers" : "       "}    ${row}`),
    ...(isAlone ? ["  not connected to any peer yet: see 'weave status connections'"] : []),
  ]).trimEnd();
}
