// Outcome of a launch: the answer for programs, and the text for people.
import { splitHostPort } from "../address/hostport.ts";
import type { Launched, LaunchedPeer, Shape } from "../api/shapes.ts";
import { printedLines } from "../log/printable.ts";
import type { Warning } from "./launcher.ts";
import type { Started } from "./started.ts";

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
  { name, nickname, range, overlay, encryption, targets }: Started,
  process: Pick<Shape<typeof Launched>, "pid" | "log" | "warnings">,
): Shape<typeof Launched> {
  return {
    ...process,
    ...{ name, nickname, range, overlay, encryption },
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
