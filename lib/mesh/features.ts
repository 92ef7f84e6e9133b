// The features that peers exchange in the handshake: strings by name (mesh: connection.go).
import { SHORT_IDS } from "./bounds.ts";
import { ProtocolError } from "./framing.ts";
import type { Features } from "./handshake.ts";
import { parsePeerName } from "./name.ts";
import { Peer } from "./peer.ts";

/** Gossip channels that 2.x does not have: messages only go to neighbours that announce the channel. */
export const ASK_CHANNEL = "weave-ask";
export const MTU_CHANNEL = "weave-mtu";
const OWN_CHANNELS: readonly string[] = [ASK_CHANNEL, MTU_CHANNEL];
const MAX_CHANNELS = 16;

const PEER_NAME_FLAVOUR = "mac";
const REQUIRED = ["PeerNameFlavour", "Name", "NickName", "UID", "ConnID"] as const;
const MAX_NICKNAME = 1024;

export interface RemoteFeatures {
  /** The peer, as it describes itself. */
  readonly peer: Peer;
  /** Its half of the connection's uid. */
  readonly connectionId: bigint;
  /** We are on a network that it trusts. */
  readonly trustsUs: boolean;
  /** Channels that it announces, beside those of 2.x. */
  readonly channels: ReadonlySet<string>;
}

/** Return whether messages of a channel only go to neighbours that announce it. */
export function isAnnounced(channel: string): boolean {
  return OWN_CHANNELS.includes(channel);
}

/** Return our features for one connection, with those of overlays. */
export function makeFeatures(
  ourself: Peer,
  connectionId: bigint,
  trustsThem: boolean,
  overlay: Record<string, string>,
): Features {
  return new Map(
    Object.entries({
      PeerNameFlavour: PEER_NAME_FLAVOUR,
      Name: ourself.name,
      NickName: ourself.nickName,
      ShortID: String(ourself.shortId),
      UID: String(ourself.uid),
      ConnID: String(connectionId),
      Trusted: String(trustsThem),
      Channels: OWN_CHANNELS.join(" "),
      ...overlay,
    }),
  );
}

/** Parse the features of a peer; throws ProtocolError or PeerNameError. */
export function parseFeatures(features: Features): RemoteFeatures {
  const get = (key: (typeof REQUIRED)[number]) => {
    const value = features.get(key);
    if (value === undefined) throw new ProtocolError(`field ${key} is missing`);
    return value;
  };
  for (const key of REQUIRED) get(key);
  if (get("PeerNameFlavour") !== PEER_NAME_FLAVOUR) {
    const theirs = get("PeerNameFlavour");
    throw new ProtocolError(`Peer name flavour mismatch (ours: '${PEER_NAME_FLAVOUR}', theirs: '${theirs}')`);
  }
  if (get("NickName").length > MAX_NICKNAME) throw new ProtocolError("nickname too long");
  const shortId = features.get("ShortID");
  const peer = new Peer({
    name: parsePeerName(get("Name")),
    nickName: get("NickName"),
    uid: number("UID", get("UID"), 1n << 64n),
    version: 0,
    shortId: shortId === undefined ? 0 : Number(number("ShortID", shortId, BigInt(SHORT_IDS))),
    hasShortId: shortId !== undefined,
  });
  return {
    peer,
    connectionId: number("ConnID", get("ConnID"), 1n << 64n),
    trustsUs: features.get("Trusted") === "true",
    channels: new Set((features.get("Channels") ?? "").split(" ", MAX_CHANNELS)),
  };
}

function number(key: string, text: string, bound: bigint): bigint {
  if (!/^\d{1,20}$/.test(text) || BigInt(text) >= bound)
    throw new ProtocolError(`field ${key} is not a number`);
  return BigInt(text);
}
