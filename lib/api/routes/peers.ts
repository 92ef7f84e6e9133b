// Peers: connecting, forgetting, probing and asking them.
import { AskError } from "../../mesh/ask.ts";
import { PeerAddressError } from "../../mesh/dial/named.ts";
import { ProtocolError } from "../../mesh/framing.ts";
import { parsePeerName } from "../../mesh/name.ts";
import { HttpError } from "../httperror.ts";
import { PingError } from "../pingerror.ts";
import { form, query, read, wantsJson } from "../request.ts";
import { json, lines, text } from "../responses.ts";
import { subject } from "../routing.ts";

/** Peers that may be named for one ping. */
const MAX_PINGED = 48;

/** Longest timeout of a question. */
const MAX_ASK_MS = 30_000;

/** Status of a question to a peer without an answer. */
const ASK_STATUS = {
  "not-ours": 501,
  "unknown subject": 501,
  silent: 504,
  refused: 502,
  busy: 503,
} as const;

const route = subject((error) => {
  if (error instanceof AskError)
    return new HttpError(ASK_STATUS[error.code], error.message, { cause: error });
  if (error instanceof PingError) return new HttpError(404, error.message, { cause: error });
  return error instanceof PeerAddressError || error instanceof ProtocolError
    ? new HttpError(400, error.message, { cause: error })
    : undefined;
});

export const PEER_ROUTES = [
  route("/connect", {
    async POST(call) {
      const values = await form(call);
      return lines(await call.target.connect(values.getAll("peer"), values.get("replace") === "true"));
    },
  }),
  route("/forget", {
    async POST(call) {
      const unknown = call.target.forget((await form(call)).getAll("peer"));
      return wantsJson(call) ? json({ unknown }) : text("");
    },
  }),
  route("/ping", {
    async POST(call) {
      const values = await form(call);
      const count = values.get("count") ?? "10";
      if (!/^[1-9]\d{0,2}$/.test(count))
        throw new HttpError(400, `count ${count} is not a number from 1 to 999`);
      return json(await call.target.ping(values.getAll("peer").slice(0, MAX_PINGED), Number(count)));
    },
  }),
  route("/ask/:peer/:subject", {
    async POST(call) {
      const { request, parameters, target } = call;
      const body: unknown = await request.json().catch((error) => {
        throw new HttpError(400, "a question is JSON", { cause: error });
      });
      const timeout = query(call, "timeout") ?? "10000";
      if (!/^[1-9]\d{0,4}$/.test(timeout) || Number(timeout) > MAX_ASK_MS)
        throw new HttpError(400, `timeout ${timeout} is not a number from 1 to ${MAX_ASK_MS} ms`);
      const peer = read(parsePeerName, parameters.peer);
      return json(await target.ask(peer, parameters.subject, body, Number(timeout)));
    },
  }),
];
