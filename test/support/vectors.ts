// The recorded bytes under test/vectors, in the shapes that tests use.
import { join } from "node:path";
import { atOnce } from "../../lib/clock/slices.ts";
import { type Framing, takeMessage } from "../../lib/mesh/framing.ts";
import { ReceiveBuffer } from "../../lib/mesh/receivebuffer.ts";

const FOLDER = join(import.meta.dir, "../vectors");

export const unhex = (hex: string): Uint8Array => Uint8Array.fromHex(hex);
export const hex = (bytes: Uint8Array): string => bytes.toHex();

/** One control connection: what each side sent, whole. */
interface RecordedConnection {
  readonly client: Uint8Array;
  readonly server: Uint8Array;
}

interface RecordedKeys {
  readonly private: string;
  readonly remotePublic: string;
  readonly session: string;
}

export interface RecordedDatagram {
  readonly src: string;
  readonly dst: string;
  readonly bytes: Uint8Array;
  /** IP cut it up, and only its beginning was captured. */
  readonly firstFragmentOnly: boolean;
}

export interface Capture {
  readonly password: string | null;
  readonly keys: readonly RecordedKeys[];
  readonly connections: readonly RecordedConnection[];
  readonly datagrams: readonly RecordedDatagram[];
  /** ESP packets, from the index on. */
  readonly esp: readonly Omit<RecordedDatagram, "firstFragmentOnly">[];
  /** What `ip xfrm state` showed, by host. */
  readonly xfrmState: Readonly<Record<string, string>>;
}

/** A capture of the original: plain, password or plain-fastdp. */
export async function capture(name: string): Promise<Capture> {
  const json = await Bun.file(join(FOLDER, `original/${name}.json`)).json();
  const side = (chunks: { dir: string; hex: string }[], dir: string) =>
    unhex(chunks.flatMap((chunk) => (chunk.dir === dir ? [chunk.hex] : [])).join(""));
  return {
    password: json.password,
    keys: json.keys,
    connections: json.tcp.map(({ chunks }: { chunks: { dir: string; hex: string }[] }) => ({
      client: side(chunks, "client"),
      server: side(chunks, "server"),
    })),
    datagrams: (json.udp ?? []).map(
      (datagram: { src: string; dst: string; hex: string; firstFragmentOnly: boolean }) => ({
        src: datagram.src,
        dst: datagram.dst,
        bytes: unhex(datagram.hex),
        firstFragmentOnly: datagram.firstFragmentOnly,
      }),
    ),
    esp: (json.esp ?? []).map((packet: { src: string; dst: string; hex: string }) => ({
      src: packet.src,
      dst: packet.dst,
      bytes: unhex(packet.hex),
    })),
    xfrmState: json.xfrmState ?? {},
  };
}

/** The messages of one side of a plain connection of protocol 2, behind header and encryption flag. */
export function plainMessages(side: Uint8Array): Uint8Array[] {
  const view = new DataView(side.buffer, side.byteOffset, side.length);
  const messages: Uint8Array[] = [];
  for (let at = 8; at + 4 <= side.length; ) {
    const length = view.getUint32(at, false);
    messages.push(side.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return messages;
}

/** Return the messages in these bytes of one side of a connection; an incomplete last one is left out. */
export function unframeAll(framing: Framing, bytes: Uint8Array): Uint8Array[] {
  const buffer = new ReceiveBuffer();
  buffer.push(bytes);
  const messages: Uint8Array[] = [];
  for (;;) {
    const message = atOnce(takeMessage(framing, buffer));
    if (!message) return messages;
    messages.push(message);
  }
}

const RTM_GETLINK = 18;

/** What ip, bridge, tc and nft sent: the last datagram of each command. */
export async function kernelTools(): Promise<Map<string, Uint8Array>> {
  const { records } = await Bun.file(join(FOLDER, "kernel-tools.json")).json();
  return new Map(
    records.map(({ command, sent }: { command: string; sent: string[] }) => {
      // Before a change the tools look the link up (RTM_GETLINK); the change itself is what comes last beside that.
      const change = sent.map(unhex).findLast((bytes) => bytes[4] !== RTM_GETLINK);
      return [command, change ?? new Uint8Array()];
    }),
  );
}

/** The answers of the original's control API, by file name. */
export async function apiAnswers(): Promise<Record<string, string>> {
  return (await Bun.file(join(FOLDER, "original/plain-api.json")).json()).answers;
}
