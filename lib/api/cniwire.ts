// A CNI call as the entry program of the executables (test/tools/entry) hands it to the router: POST /cni/raw, whose body is the
// inode of CNI_NETNS (64 bits, little-endian; 0: none), each CNI variable with a NUL behind it, a NUL, and standard input. The
// answer is the exit code as a digit, the output, and a NUL.
import type { CniCall, CniOutcome } from "./bodies.ts";

/** The request up to its body; the digits of its length are filled in. */
export const CNI_CALL_HEAD =
  "POST /cni/raw HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 000000\r\n\r\n";

/** Told on standard error where the result cannot be written. */
export const NOT_WRITTEN = "weave-net: cannot write the result to standard output";

/** The connection of a call that was sent and is not answered yet, for the runtime. */
export const PENDING_FD = 100;

/** Bytes: a configuration's prevResult and a few interfaces. */
export const MAX_CNI_ANSWER = 256 << 10;

const INODE_SIZE = 8;

/** Read the body of a request; undefined where it is cut. */
export function decodeCniCall(body: Uint8Array): CniCall | undefined {
  if (body.length < INODE_SIZE) return undefined;
  const inode = Buffer.from(body.buffer, body.byteOffset, INODE_SIZE).readBigUInt64LE();
  const variables: [string, string][] = [];
  let at = INODE_SIZE;
  for (;;) {
    const end = body.indexOf(0, at);
    if (end < 0) return undefined;
    const variable = utf8.decode(body.subarray(at, end));
    at = end + 1;
    if (variable === "") break;
    const equals = variable.indexOf("=");
    // The environment may hold words that are no variables.
    if (equals > 0) variables.push([variable.slice(0, equals), variable.slice(equals + 1)]);
  }
  return {
    variables: Object.fromEntries(variables),
    input: utf8.decode(body.subarray(at)),
    namespace: inode === 0n ? "" : String(inode),
  };
}

export function encodeCniOutcome({ output, code }: CniOutcome): string {
  return `${code}${output && `${output}\n`}\0`;
}

/**
 * Read an answer with its header; undefined where it is a refusal. One without its beginning stays incomplete: the entry program
 * had read that when the rest did not come within 1 s.
 */
export function decodeCniAnswer(bytes: Uint8Array): CniOutcome | "incomplete" | undefined {
  const text = utf8.decode(bytes);
  if (text.length < "HTTP/1.1 200 ".length) return "incomplete";
  if (!text.startsWith("HTTP/1.1 ")) return "incomplete";
  if (!text.startsWith("200 ", "HTTP/1.1 ".length)) return undefined;
  const [, code, output] = /\r\n\r\n(\d)([^\0]*)\0$/.exec(text) ?? [];
  return output === undefined ? "incomplete" : { output: output.replace(/\n$/, ""), code: Number(code) };
}

/** As Buffer reads it where the plugin runs: with a byte order mark, which no configuration may begin with. */
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
