// A CNI call that the entry program has sent and left to the runtime: its answer is read from the connection that it left.
import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RouterEndedError } from "../../lib/api/client.ts";
import { MAX_CNI_ANSWER } from "../../lib/api/cniwire.ts";
import { pendingAnswer } from "../../lib/api/pendingcall.ts";
import { syscall } from "../../lib/sys/syscall.ts";
import { useFolder } from "../support/ownfolders.ts";

const HEAD = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";

let folder: string;
let setBack: () => void;
let pending: number;
let write: (text: string) => void;
let end: () => void;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "weave-pending-"));
  setBack = useFolder(folder);
  const fds = new Int32Array(2);
  syscall("pipe", "pipe2", new Uint8Array(fds.buffer), 0);
  const [reading = -1, writing = -1] = fds;
  pending = reading;
  let open = true;
  write = (text) => void writeSync(writing, text);
  end = () => {
    if (open) closeSync(writing);
    open = false;
  };
});
afterEach(() => {
  end();
  closeSync(pending);
  setBack();
  rmSync(folder, { recursive: true });
});

test("an answer is read to its end, in however many pieces it comes", async () => {
  const answer = pendingAnswer(60_000, pending);
  for (const piece of [HEAD.slice(0, 9), HEAD.slice(9), '0{"cniVersion"', ':"1.0.0"}\n', "\0"]) {
    write(piece);
    await new Promise(setImmediate);
  }
  expect(await answer).toEqual({ code: 0, output: '{"cniVersion":"1.0.0"}' });
});

test("an error of the plugin is one; a refusal of the router leaves the call to the plugin", async () => {
  write(`${HEAD}1{"code":11}\n\0`);
  expect(await pendingAnswer(60_000, pending)).toEqual({ code: 1, output: '{"code":11}' });
  write("HTTP/1.1 503 Service Unavailable\r\n\r\n");
  expect(await pendingAnswer(60_000, pending)).toBeUndefined();
});

test("an answer that ends before its end is one of a router that has ended", async () => {
  write(`${HEAD}0{"cniVersion"`);
  end();
  const failed = await pendingAnswer(60_000, pending).catch((error) => error);
  expect(failed).toBeInstanceOf(RouterEndedError);
  expect(failed.message).toBe("weave ended during this call; try again");
});

test("an answer longer than any is one, too; one that is as long as may be is read", async () => {
  const read = async (text: string) => {
    const file = join(folder, "answer");
    writeFileSync(file, text);
    const fd = openSync(file, "r");
    const answer = await pendingAnswer(60_000, fd).catch((error) => error);
    closeSync(fd);
    return answer;
  };
  const room = MAX_CNI_ANSWER - `${HEAD}0\0`.length;
  expect(await read(`${HEAD}0${"x".repeat(room)}\0`)).toEqual({ code: 0, output: "x".repeat(room) });
  expect(await read(`${HEAD}0${"x".repeat(room + 1)}\0`)).toBeInstanceOf(RouterEndedError);
});
