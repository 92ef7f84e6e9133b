// Causes of failed connections and listeners, in words; and who has a port.
import { expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { causeOf, causeOfErrno } from "../../lib/sys/cause.ts";
import { causeOfFailedConnect } from "../../lib/sys/connectcause.ts";
import { isOwnAddress, listenTrouble, notOurAddress } from "../../lib/sys/listening.ts";
import { portHolder, readTaken } from "../../lib/sys/portholder.ts";
import { reasonOf } from "../../lib/sys/reason.ts";
import { NotRootError } from "../../lib/sys/rights.ts";
import { SysError } from "../../lib/sys/syscall.ts";
import { troubleText } from "../../lib/sys/trouble.ts";
import { freePort } from "../support/freeport.ts";

test("ports in use, by the kernel's lists", () => {
  const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1A80 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0163630A:1A7F 0263630A:D1F4 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
`;
  expect(readTaken("tcp", tcp)).toEqual([
    { protocol: "tcp", address: "0100007F", port: 6784, inode: "4711" },
  ]);
  const udp = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  811: 00000000:1A80 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0 0
`;
  expect(readTaken("udp", udp)).toEqual([{ protocol: "udp", address: "00000000", port: 6784, inode: "0" }]);
  expect(readTaken("udp", "")).toEqual([]);
});

test("an address in /proc is found by its text, and every address stands for each", async () => {
  const server = createServer();
  const port = freePort();
  server.listen({ host: "127.0.0.1", port });
  const udp = createSocket("udp4");
  try {
    await once(server, "listening");
    const ours = `${process.execPath.split("/").pop()?.slice(0, 15)} (pid ${process.pid})`;
    const comm = (text: string | undefined) => text?.replace(/^.* \(/, "(");
    expect(comm(portHolder("tcp", "127.0.0.1", port))).toBe(comm(ours));
    expect(comm(portHolder("tcp", "0.0.0.0", port))).toBe(comm(ours));
    expect(portHolder("tcp", "127.0.0.2", port)).toBeUndefined();
    udp.bind(port, "0.0.0.0");
    await once(udp, "listening");
    expect(comm(portHolder("udp", "127.0.0.2", port))).toBe(comm(ours));

    const other = createServer();
    const failed = once(other, "error");
    other.listen({ host: "127.0.0.1", port });
    const [error] = await failed;
    const place = { protocol: "tcp", hostname: "127.0.0.1", port, option: "--http-addr" } as const;
    const inUse = (protocol: string) => ({
      cause: "port in use" as const,
      reason: expect.stringMatching(
        new RegExp(`^${protocol} port ${port} is in use by .+ \\(pid ${process.pid}\\)$`),
      ),
      remedy: "stop that, or choose another with --http-addr",
    });
    expect(listenTrouble(error, place)).toEqual(inUse("TCP"));
    expect(listenTrouble(new SysError("binding", 98), { ...place, protocol: "udp" })).toEqual(inUse("UDP"));
    expect(troubleText(listenTrouble(new SysError("binding", 13), place))).toBe(
      "permission denied: ports below 1024 need root; run it as root",
    );
    expect(troubleText(listenTrouble(new SysError("binding", 24), place))).toBe(
      "binding: Too many open files",
    );
  } finally {
    server.close();
    udp.close();
  }
});

test("an address of another host is named, with those of this one", () => {
  expect(isOwnAddress("127.0.0.1")).toBe(true);
  expect(isOwnAddress("127.3.2.1")).toBe(true);
  expect(isOwnAddress("192.0.2.1")).toBe(false);
  expect(troubleText(notOurAddress("--host"))).toMatch(
    /^not an address of this host; choose one with --host: .*127\.0\.0\.1 \(lo\)/,
  );
});

test("what fetch says of a socket is what the kernel said", async () => {
  const failure = await fetch("http://localhost/", { unix: "/nonexistent/socket" }).catch((error) => error);
  expect(reasonOf(failure)).toBe("no such file or directory");
  const silent = createServer();
  silent.listen({ host: "127.0.0.1", port: 0 });
  await once(silent, "listening");
  const { port } = silent.address() as { port: number };
  const late = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(1) }).catch(
    (error) => error,
  );
  silent.close();
  expect(reasonOf(late)).toBe("no answer in time");
});

test("an error of a file names the call, the file and the cause, without the code", () => {
  expect(reasonOf(attempt(() => readFileSync("/nosuch/file")))).toBe(
    "open /nosuch/file: no such file or directory",
  );
  expect(reasonOf(attempt(() => mkdirSync("/proc/nosuch")))).toStartWith("mkdir /proc/nosuch: ");
  expect(
    reasonOf(
      attempt(() => readFileSync("/nosuch/file")),
      "cannot read /nosuch/file",
    ),
  ).toBe("no such file or directory");
  expect(reasonOf(attempt(() => readFileSync("/etc")))).toBe("illegal operation on a directory");
});

function attempt(act: () => unknown): unknown {
  try {
    return act();
  } catch (error) {
    return error;
  }
}

test("an error that is none of a connection keeps its words", () => {
  expect(reasonOf(new Error("EVIL: said, by 'somebody'"))).toBe("EVIL: said, by 'somebody'");
  expect(reasonOf(new SysError("binding", 98))).toStartWith("binding: ");
  expect(reasonOf("text")).toBe("text");
  expect(causeOf(new Error("plain"))).toBeUndefined();
  expect(causeOfErrno(113)?.cause).toBe("no route to host");
  expect(causeOfErrno(101)?.code).toBe("ENETUNREACH");
});

test("a port where nobody listens is refused, by the kernel's word", async () => {
  const refused = Object.assign(new Error("Failed to connect"), { code: "ECONNREFUSED", syscall: "connect" });
  expect((await causeOfFailedConnect(refused, { host: "127.0.0.1", port: 9 }))?.cause).toBe(
    "connection refused",
  );
  // Bun means this by ECONNREFUSED, too: an address that nothing here can come from.
  const why = await causeOfFailedConnect(refused, { host: "127.0.0.1", port: 9, from: "192.0.2.1" });
  expect(why?.cause).toBe("address is not on this host");
  expect((await causeOfFailedConnect(refused, { host: "255.255.255.255", port: 9 }))?.code).toBe(
    "ENETUNREACH",
  );
});

test("missing rights name what could not be done, and the remedy", () => {
  expect(new NotRootError("cannot ask the router at /run/weave/weave.sock").message).toStartWith(
    "cannot ask the router at /run/weave/weave.sock: permission denied; ",
  );
});
