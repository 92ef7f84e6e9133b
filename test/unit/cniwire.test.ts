// What the entry program sends and gets (lib/api/cniwire.ts).
import { expect, test } from "bun:test";
import { CNI_CALL_HEAD, decodeCniAnswer, decodeCniCall, encodeCniOutcome } from "../../lib/api/cniwire.ts";

const body = (inode: bigint, text: string) => {
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(inode);
  return Buffer.concat([head, Buffer.from(text)]);
};

test("a call: inode, variables, input", () => {
  const text = "CNI_COMMAND=ADD\0CNI_ARGS=a=b;c=ü\0CNI_\0CNI_PATH=\0\0{}\0x";
  expect(decodeCniCall(body(4_026_531_840n, text))).toEqual({
    namespace: "4026531840",
    variables: { CNI_COMMAND: "ADD", CNI_ARGS: "a=b;c=ü", CNI_PATH: "" },
    input: "{}\0x",
  });
  expect(decodeCniCall(body(0n, "\0"))).toEqual({ namespace: "", variables: {}, input: "" });
});

test("a call that is cut is none", () => {
  const whole = body(1n, "CNI_COMMAND=ADD\0\0");
  for (let length = 0; length < whole.length; length++)
    expect(decodeCniCall(whole.subarray(0, length))).toBeUndefined();
  expect(decodeCniCall(whole)).toBeDefined();
});

test("an answer is incomplete up to its last byte; another status is a refusal", () => {
  const outcome = { output: '{"ips":["ü"]}', code: 1 };
  const whole = Buffer.from(`HTTP/1.1 200 OK\r\nA: b\r\n\r\n${encodeCniOutcome(outcome)}`);
  for (let length = 0; length < whole.length; length++)
    expect(decodeCniAnswer(whole.subarray(0, length))).toBe("incomplete");
  expect(decodeCniAnswer(whole)).toEqual(outcome);
  expect(decodeCniAnswer(Buffer.from("HTTP/1.1 409 Conflict\r\n"))).toBeUndefined();
  expect(encodeCniOutcome({ output: "", code: 0 })).toBe("0\0");
});

test("an answer without its beginning is incomplete: it is no refusal", () => {
  const whole = Buffer.from("HTTP/1.1 200 OK\r\nA: b\r\n\r\n0{}\n\0");
  for (let from = 1; from < whole.length; from++)
    expect(decodeCniAnswer(whole.subarray(from))).toBe("incomplete");
});

// A plugin prints its output, and the runtime reads it: not a byte less may arrive.
test.each([
  "",
  " ",
  "{}",
  " {} ",
  "\n",
  "{}\n",
  "\n\n{}\n\n",
  "\t{}\r",
  "\ufeff{}",
  "{}\ufeff",
  "\u00a0",
  "1{}",
])("the output %j arrives as it was", (output) => {
  for (const code of [0, 1, 9]) {
    const whole = `HTTP/1.1 200 OK\r\nA: b\r\n\r\n${encodeCniOutcome({ output, code })}`;
    expect(decodeCniAnswer(Buffer.from(whole))).toEqual({ output, code });
  }
});

test("a byte order mark stays, as where the plugin runs", () => {
  expect(decodeCniCall(body(0n, "\0\ufeff{}"))).toMatchObject({ input: "\ufeff{}" });
});

test("the head has room for 6 digits, where the entry program writes them", () => {
  expect(CNI_CALL_HEAD.slice(-10)).toBe("000000\r\n\r\n");
});
