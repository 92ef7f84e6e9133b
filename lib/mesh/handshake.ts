// The handshake of a control connection, versions 1 and 2 (mesh: protocol.go). A pure state machine: bytes of the peer in,
// bytes for the peer out, and in the end an agreement.
import { concat } from "../bytes/concat.ts";
import { atOnce } from "../clock/slices.ts";
import { formSessionKey, KEY_LENGTH, type KeyPair, type Nacl } from "../crypto/nacl.ts";
import { MAX_PREFIX, messageLength } from "../gob/cursor.ts";
import { GobDecoder, GobReader } from "../gob/decoder.ts";
import { GobEncoder } from "../gob/encoder.ts";
import { map, string } from "../gob/type.ts";
import { HandshakeError } from "./errors.ts";
import {
  type Framing,
  gobFramed,
  lengthPrefixed,
  MAX_MESSAGE,
  ProtocolError,
  sealed,
  takeMessage,
  UnopenedError,
} from "./framing.ts";
import { encodeTagged, TAG } from "./message.ts";
import { ReceiveBuffer } from "./receivebuffer.ts";

const MAGIC = new TextEncoder().encode("weave");
const HEADER = MAGIC.length + 2;

const PROTOCOL_MIN_VERSION = 1;
export const PROTOCOL_MAX_VERSION = 2;

/** The features of version 1. */
const V1_FEATURES = ["ConnID", "Name", "NickName", "PeerNameFlavour", "UID"];

/** Bytes of a handshake. Features have a few hundred, and are read before the peer has proved who it is. */
const MAX_HANDSHAKE = 16 * 1024;
/** Bytes of the first message, which is the proof in protocol 1: the topology. */
const MAX_FIRST_MESSAGE = 256 * 1024;

const FeaturesType = map(string, string);

/** What a peer announces of itself and of the connection. */
export type Features = ReadonlyMap<string, string>;

/** The password of the network, and the cipher. */
export interface Encryption {
  readonly password: Uint8Array;
  readonly nacl: Nacl;
}

/**
 * Return the default lowest version to accept. Version 1 sends the peer's name in clear, where it can be changed on the
 * path; so it is not accepted with a password.
 */
export function lowestVersion(encryption: Encryption | undefined): number {
  return encryption ? 2 : PROTOCOL_MIN_VERSION;
}

export interface HandshakeParams {
  /** We opened the connection. */
  readonly outbound: boolean;
  readonly features: Features;
  readonly encryption?: Encryption | undefined;
  /** The lowest protocol version we accept. */
  readonly minVersion?: number;
  /** The highest we offer. */
  readonly maxVersion?: number;
}

/** The outcome of a handshake. */
export interface Agreement {
  readonly version: number;
  readonly features: Features;
  readonly framing: Framing;
  /** Present on encrypted connections; overlays derive their keys from it. */
  readonly sessionKey: Uint8Array | undefined;
  /** A message that arrived within the handshake, to be handled before `rest`. */
  readonly first?: Uint8Array;
  /** Bytes after the handshake. */
  readonly rest: Uint8Array;
}

type Step = () => Agreement | boolean;

/**
 * One handshake. With a password it ends once the peer has proved that it knows it. Methods throw HandshakeError where the
 * ends cannot agree, ProtocolError or GobError where the peer breaks the protocol.
 */
export class Handshake {
  readonly #received = new ReceiveBuffer();
  #step: Step = () => this.#readHeader();
  #limit = MAX_HANDSHAKE;
  #version = 0;
  #proving = false;

  constructor(
    private readonly params: HandshakeParams,
    private readonly send: (bytes: Uint8Array) => void,
  ) {
    const { minVersion = PROTOCOL_MIN_VERSION, maxVersion = PROTOCOL_MAX_VERSION } = params;
    send(concat([MAGIC, Uint8Array.of(minVersion, maxVersion)]));
  }

  /** Bytes of memory for received data that is not consumed yet. */
  get held(): number {
    return this.#received.memory;
  }

  /** Free what was received. */
  clear(): void {
    this.#received.clear();
  }

  /** Return why it failed where the stream ends now: a peer that cannot open what we sealed closes it without a message. */
  refusal(closed: Error): Error {
    return this.#proving ? wrongPassword(closed.message, "probably ") : closed;
  }

  /** Take bytes of the peer; returns the agreement once it is complete. */
  receive(bytes: Uint8Array): Agreement | undefined {
    this.#received.push(bytes);
    for (;;) {
      const result = this.#step();
      if (typeof result === "object") return result;
      if (result) continue;
      if (this.#received.length > this.#limit) throw new ProtocolError("handshake too long");
      return undefined;
    }
  }

  #readHeader(): boolean {
    if (this.#received.length < HEADER) return false;
    const header = this.#received.take(HEADER);
    if (!MAGIC.every((byte, i) => header[i] === byte)) {
      throw new HandshakeError(
        "no router",
        "the program that answers is not a weave router",
        "check the address and the port",
        `remote protocol header not recognised: [${header.subarray(0, MAGIC.length).join(" ")}]`,
      );
    }
    const [theirMin = 0, theirMax = 0] = header.subarray(MAGIC.length);
    const { minVersion = PROTOCOL_MIN_VERSION, maxVersion = PROTOCOL_MAX_VERSION } = this.params;
    this.#version = Math.min(theirMax, maxVersion);
    if (Math.max(theirMin, minVersion) > this.#version) {
      const theirs = `[${theirMin},${theirMax}]`;
      throw new HandshakeError(
        "version",
        `it supports versions ${theirMin} to ${theirMax} of the mesh protocol, this host ${minVersion} to ${maxVersion}`,
        "upgrade the older one, or launch this host with a lower --min-protocol-version",
        `remote version range ${theirs} is incompatible with ours [${minVersion},${maxVersion}]`,
      );
    }
    // Making a key costs more than a connection that is reset at once.
    const keys = this.params.encryption?.nacl.generateKeyPair();
    if (this.#version === 1) this.#startV1(keys);
    else this.#startV2(keys);
    return true;
  }

  #startV1(keys: KeyPair | undefined): void {
    const features = onlyV1(this.params.features);
    if (keys) features.set("PublicKey", keys.publicKey.toHex());
    const encoder = new GobEncoder();
    const decoder = new GobDecoder();
    this.send(encoder.encode(FeaturesType, features));
    this.#step = () => {
      const length = messageLength(this.#received.peek(MAX_PREFIX), 0, MAX_MESSAGE);
      if (length === undefined || this.#received.length < length) return false;
      const next = decoder.take(FeaturesType, this.#received.take(length), 0);
      if (!next?.value) return true;
      const key = next.value.get("PublicKey");
      requireSameSecrecy(keys !== undefined, key !== undefined);
      if (key !== undefined && !/^[0-9a-f]{64}$/i.test(key)) throw new ProtocolError("malformed public key");
      const remoteKey = key === undefined ? undefined : Uint8Array.fromHex(key);
      const secured = this.#secure(gobFramed(), keys, remoteKey);
      const agreed = { version: this.#version, features: onlyV1(next.value), ...secured };
      if (!secured.sessionKey) return { ...agreed, rest: this.#rest() };
      this.#awaitProof(agreed);
      return true;
    };
  }

  /**
   * Features of protocol 1 are in clear and prove nothing; the first message that opens proves the password. We send a
   * heartbeat at once, or two of us would wait for each other.
   */
  #awaitProof(agreed: Omit<Agreement, "rest">): void {
    this.send(agreed.framing.frame(encodeTagged(TAG.heartbeat)));
    this.#limit = MAX_FIRST_MESSAGE;
    this.#proving = true;
    this.#step = () => {
      const first = this.#next(agreed.framing);
      return first ? { ...agreed, first, rest: this.#rest() } : false;
    };
  }

  #startV2(keys: KeyPair | undefined): void {
    this.send(keys ? concat([Uint8Array.of(1), keys.publicKey]) : Uint8Array.of(0));
    this.#step = () => {
      const [flag] = this.#received.peek(1);
      if (flag === undefined) return false;
      if (flag > 1) throw new ProtocolError(`Bad encryption flag ${flag}`);
      requireSameSecrecy(keys !== undefined, flag === 1);
      const length = flag === 1 ? 1 + KEY_LENGTH : 1;
      if (this.#received.length < length) return false;
      const key = this.#received.take(length).subarray(1);
      const secured = this.#secure(lengthPrefixed(), keys, flag === 1 ? key : undefined);
      this.send(secured.framing.frame(new GobEncoder().encode(FeaturesType, new Map(this.params.features))));
      this.#proving = secured.sessionKey !== undefined;
      this.#step = () => {
        const message = this.#next(secured.framing);
        if (!message) return false;
        const features = new GobReader(message).read(FeaturesType);
        return { version: this.#version, features, ...secured, rest: this.#rest() };
      };
      return true;
    };
  }

  /** Take the next message. Throws HandshakeError if the first sealed one does not open: the password differs. */
  #next(framing: Framing): Uint8Array | undefined {
    try {
      return atOnce(takeMessage(framing, this.#received));
    } catch (error) {
      if (this.#proving && error instanceof UnopenedError) throw wrongPassword(error.message);
      throw error;
    }
  }

  #rest(): Uint8Array {
    return this.#received.take(this.#received.length);
  }

  #secure(
    inner: Parameters<typeof sealed>[0],
    keys: KeyPair | undefined,
    remoteKey: Uint8Array | undefined,
  ): Pick<Agreement, "framing" | "sessionKey"> {
    const { encryption, outbound } = this.params;
    if (!remoteKey || !encryption || !keys) return { framing: inner, sessionKey: undefined };
    const sessionKey = formSessionKey(encryption.nacl, remoteKey, keys, encryption.password);
    return { framing: sealed(inner, encryption.nacl, sessionKey, outbound), sessionKey };
  }
}

function requireSameSecrecy(ours: boolean, theirs: boolean): void {
  if (ours && !theirs) {
    throw new HandshakeError(
      "password missing there",
      "this host has a password, the other has none",
      "launch the other one with the password of this network",
      "password specified, but peer requested an unencrypted connection",
    );
  }
  if (!ours && theirs) {
    throw new HandshakeError(
      "password missing here",
      "the other host has a password, this one has none",
      "launch this host with the password of that network",
      "no password specified, but peer requested an encrypted connection",
    );
  }
}

function wrongPassword(original: string, how = ""): HandshakeError {
  const reason = `the passwords of the two hosts ${how}differ`;
  return new HandshakeError("password", reason, "launch both with the same password", original);
}

function onlyV1(features: Features): Map<string, string> {
  return new Map([...features].filter(([key]) => V1_FEATURES.includes(key)));
}
