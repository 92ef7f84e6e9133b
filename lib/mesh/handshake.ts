// The handshake of a control connection, versions 1 and 2 (mesh: protocol.go), as a pure state machine: bytes of the
// peer in, bytes for the peer out, and in the end what both have agreed on.
import { formSessionKey, KEY_LENGTH, type KeyPair, type Nacl } from "../crypto/nacl.ts";
import { GobDecoder, GobReader } from "../gob/decoder.ts";
import { concat, GobEncoder } from "../gob/encoder.ts";
import { map, string } from "../gob/type.ts";
import { type Framing, gobFramed, lengthPrefixed, ProtocolError, sealed } from "./framing.ts";

const MAGIC = new TextEncoder().encode("weave");
const HEADER = MAGIC.length + 2;

export const PROTOCOL_MIN_VERSION = 1;
export const PROTOCOL_MAX_VERSION = 2;

/** Version 1 knows these features and no others. */
const V1_FEATURES = ["ConnID", "Name", "NickName", "PeerNameFlavour", "UID"];

// A peer that is not a weave one may send anything for ever; features are a few hundred bytes.
const MAX_HANDSHAKE = 64 * 1024;

const FeaturesType = map(string, string);

/** What a peer says of itself and of the connection. */
export type Features = ReadonlyMap<string, string>;

/** The password of the network, and what seals with it. */
export interface Encryption {
  readonly password: Uint8Array;
  readonly nacl: Nacl;
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

/** What both ends have agreed on. */
export interface Agreement {
  readonly version: number;
  readonly features: Features;
  readonly framing: Framing;
  /** Present on encrypted connections; the overlays derive their keys from it. */
  readonly sessionKey: Uint8Array | undefined;
  /** Bytes that came behind the handshake. */
  readonly rest: Uint8Array;
}

type Step = () => Agreement | boolean;

/** One handshake. Methods throw ProtocolError (or GobError) when the peer breaks the protocol. */
export class Handshake {
  #received: Uint8Array = new Uint8Array();
  #step: Step = () => this.#readHeader();
  #version = 0;
  readonly #keys: KeyPair | undefined;

  constructor(
    private readonly params: HandshakeParams,
    private readonly send: (bytes: Uint8Array) => void,
  ) {
    this.#keys = params.encryption?.nacl.generateKeyPair();
    const { minVersion = PROTOCOL_MIN_VERSION, maxVersion = PROTOCOL_MAX_VERSION } = params;
    send(concat([MAGIC, Uint8Array.of(minVersion, maxVersion)]));
  }

  /** Takes what the peer sent; returns the agreement once it is complete. */
  receive(bytes: Uint8Array): Agreement | undefined {
    this.#received = concat([this.#received, bytes]);
    for (;;) {
      const result = this.#step();
      if (typeof result === "object") return result;
      if (result) continue;
      if (this.#received.length > MAX_HANDSHAKE) throw new ProtocolError("handshake too long");
      return undefined;
    }
  }

  #take(length: number): Uint8Array {
    const taken = this.#received.slice(0, length);
    this.#received = this.#received.slice(length);
    return taken;
  }

  #readHeader(): boolean {
    if (this.#received.length < HEADER) return false;
    const header = this.#take(HEADER);
    if (!MAGIC.every((byte, i) => header[i] === byte)) {
      throw new ProtocolError(
        `remote protocol header not recognised: [${header.subarray(0, MAGIC.length).join(" ")}]`,
      );
    }
    const [theirMin = 0, theirMax = 0] = header.subarray(MAGIC.length);
    const { minVersion = PROTOCOL_MIN_VERSION, maxVersion = PROTOCOL_MAX_VERSION } = this.params;
    this.#version = Math.min(theirMax, maxVersion);
    if (Math.max(theirMin, minVersion) > this.#version) {
      const theirs = `[${theirMin},${theirMax}]`;
      throw new ProtocolError(
        `remote version range ${theirs} is incompatible with ours [${minVersion},${maxVersion}]`,
      );
    }
    if (this.#version === 1) this.#startV1();
    else this.#startV2();
    return true;
  }

  #startV1(): void {
    const features = onlyV1(this.params.features);
    if (this.#keys) features.set("PublicKey", Buffer.from(this.#keys.publicKey).toString("hex"));
    const encoder = new GobEncoder();
    const decoder = new GobDecoder();
    this.send(encoder.encode(FeaturesType, features));
    this.#step = () => {
      const next = decoder.next(FeaturesType, this.#received, 0);
      if (!next) return false;
      this.#take(next.at);
      const key = next.value.get("PublicKey");
      this.#requireSameSecrecy(key !== undefined);
      if (key !== undefined && !/^[0-9a-f]{64}$/i.test(key)) throw new ProtocolError("malformed public key");
      const framing = gobFramed(encoder, decoder);
      return this.#agree(
        framing,
        onlyV1(next.value),
        key === undefined ? undefined : Buffer.from(key, "hex"),
      );
    };
  }

  #startV2(): void {
    this.send(this.#keys ? concat([Uint8Array.of(1), this.#keys.publicKey]) : Uint8Array.of(0));
    this.#step = () => {
      const flag = this.#received[0];
      if (flag === undefined) return false;
      if (flag > 1) throw new ProtocolError(`Bad encryption flag ${flag}`);
      this.#requireSameSecrecy(flag === 1);
      const length = flag === 1 ? 1 + KEY_LENGTH : 1;
      if (this.#received.length < length) return false;
      const key = this.#take(length).subarray(1);
      const secured = this.#secure(lengthPrefixed(), flag === 1 ? key : undefined);
      this.send(secured.framing.frame(new GobEncoder().encode(FeaturesType, new Map(this.params.features))));
      this.#step = () => {
        const next = secured.framing.unframe(this.#received);
        if (!next) return false;
        this.#take(next.length);
        const features = new GobReader(next.message).read(FeaturesType);
        return { version: this.#version, features, ...secured, rest: this.#received };
      };
      return true;
    };
  }

  #requireSameSecrecy(theirs: boolean): void {
    if (this.#keys && !theirs) {
      throw new ProtocolError("password specified, but peer requested an unencrypted connection");
    }
    if (!this.#keys && theirs) {
      throw new ProtocolError("no password specified, but peer requested an encrypted connection");
    }
  }

  #secure(inner: Framing, remoteKey: Uint8Array | undefined): Pick<Agreement, "framing" | "sessionKey"> {
    const { encryption, outbound } = this.params;
    if (!remoteKey || !encryption || !this.#keys) return { framing: inner, sessionKey: undefined };
    const sessionKey = formSessionKey(encryption.nacl, remoteKey, this.#keys, encryption.password);
    return { framing: sealed(inner, encryption.nacl, sessionKey, outbound), sessionKey };
  }

  #agree(inner: Framing, features: Features, remoteKey: Uint8Array | undefined): Agreement {
    return { version: this.#version, features, ...this.#secure(inner, remoteKey), rest: this.#received };
  }
}

function onlyV1(features: Features): Map<string, string> {
  return new Map([...features].filter(([key]) => V1_FEATURES.includes(key)));
}
