// The mesh over real TCP on loopback: who is told of an end, once; what is cancelled; and peers that do not read.
import { afterEach, describe, expect, test } from "bun:test";
import { createServer, type Server } from "node:net";
import { listenTcp, tcpTransport } from "../../lib/mesh/tcp.ts";
import type { Stream, StreamHandler } from "../../lib/mesh/transport.ts";
import { freePort } from "../support/freeport.ts";
import { eventually } from "../support/hosts.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** A handler that records; `until` waits for something to be said. */
function recorder() {
  const said: string[] = [];
  const handler: StreamHandler = {
    data: (bytes) => void said.push(`data ${Buffer.from(bytes)}`),
    drained: () => void said.push("drained"),
    closed: (reason) => void said.push(`closed ${reason.name} ${reason.message}`),
  };
  const until = async (what: string) => {
    const find = () => said.find((line) => line.startsWith(what));
    return eventually(`something is said that begins with ${what}`, find, Boolean);
  };
  return { said, handler, until };
}

async function listening(
  accept: (stream: Stream) => StreamHandler | undefined,
  failed: (text: string) => void = () => {},
) {
  const server = await listenTcp("127.0.0.1", 0, accept, failed);
  servers.push(server);
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

const dial = (address: string, handler: StreamHandler, from?: string) =>
  new Promise<Stream>((resolve, reject) =>
    tcpTransport(from).connect(
      address,
      (stream) => {
        resolve(stream);
        return handler;
      },
      reject,
    ),
  );

describe("a stream", () => {
  test("carries bytes both ways, knows both addresses, and tells its end once", async () => {
    const [here, there] = [recorder(), recorder()];
    const accepted = Promise.withResolvers<Stream>();
    const address = await listening((stream) => {
      accepted.resolve(stream);
      return there.handler;
    });
    const stream = await dial(address, here.handler, "127.0.0.1");
    const other = await accepted.promise;
    expect([stream.remoteAddress, other.remoteAddress, other.localAddress]).toEqual([
      address,
      stream.localAddress,
      address,
    ]);
    expect(stream.write(Buffer.from("hello"))).toBe(true);
    expect(await there.until("data")).toBe("data hello");
    other.write(Buffer.from("back"));
    expect(await here.until("data")).toBe("data back");
    expect(stream.unacknowledgedMs()).toBeLessThan(5_000);
    // What was written last still arrives.
    other.write(Buffer.from("last"));
    other.close();
    expect(await here.until("closed")).toBe("closed ClosedError EOF");
    expect(here.said.filter((line) => line.startsWith("data"))).toEqual(["data back", "data last"]);
    expect(stream.write(Buffer.from("late"))).toBe(false);
    await Bun.sleep(150);
    expect([
      here.said.filter((line) => line.startsWith("closed")).length,
      there.said.filter((line) => line.startsWith("closed")),
    ]).toEqual([1, []]);
  });

  test("frees received bytes once they are handled", async () => {
    const received: Uint8Array[] = [];
    const there = recorder();
    const handler = { ...there.handler, data: (bytes: Uint8Array) => void received.push(bytes) };
    const stream = await dial(await listening(() => handler), recorder().handler);
    stream.write(new Uint8Array(100_000));
    stream.close();
    await there.until("closed");
    expect(received.length).toBeGreaterThan(0);
    expect(received.map(({ buffer }) => buffer.byteLength)).toEqual(received.map(() => 0));
  });

  test("is paused and resumed", async () => {
    const [here, there] = [recorder(), recorder()];
    const accepted = Promise.withResolvers<Stream>();
    const address = await listening((stream) => {
      accepted.resolve(stream);
      return there.handler;
    });
    const stream = await dial(address, here.handler);
    const other = await accepted.promise;
    other.pause();
    stream.write(Buffer.from("x"));
    await Bun.sleep(30);
    expect(there.said).toEqual([]);
    other.resume();
    expect(await there.until("data")).toBe("data x");
    stream.close();
    expect(await there.until("closed")).toBe("closed ClosedError EOF");
  });

  test("tells how many bytes wait in memory while the peer does not read", async () => {
    const here = recorder();
    const server = createServer((socket) => socket.pause());
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const stream = await dial(`127.0.0.1:${(server.address() as { port: number }).port}`, here.handler);
    const piece = new Uint8Array(1024 * 1024);
    for (let i = 0; i < 32; i++) stream.write(piece);
    // The rest is in buffers of the kernel.
    expect(stream.unsent).toBeGreaterThan(16 * piece.length);
    expect(stream.unsent).toBeLessThanOrEqual(32 * piece.length);
    stream.close();
    expect(stream.unsent).toBe(0);
  });

  test("that nobody wants is closed at once; an error of who accepts is told and ends it alone", async () => {
    const failures: string[] = [];
    let count = 0;
    const there = recorder();
    const address = await listening(
      () => {
        if (++count === 1) return undefined;
        if (count === 2) throw new Error("broken");
        return there.handler;
      },
      (text) => failures.push(text),
    );
    for (let i = 0; i < 2; i++) {
      const here = recorder();
      await dial(address, here.handler);
      expect(await here.until("closed")).toStartWith("closed ");
    }
    expect(failures).toEqual(["accepting a connection from 127.0.0.1: broken"]);
    const here = recorder();
    (await dial(address, here.handler)).write(Buffer.from("y"));
    expect(await there.until("data")).toBe("data y");
  });
});

describe("dialling", () => {
  const failure = (address: string) =>
    dial(address, recorder().handler).then(
      () => undefined,
      (error) => error,
    );

  test("fails with the cause, and by what address", async () => {
    const address = `127.0.0.1:${freePort()}`;
    expect(await failure(address)).toMatchObject({
      name: "DialError",
      why: "refused",
      message: expect.stringContaining(`dial tcp ${address}: connect: `),
    });
    for (const bad of ["127.0.0.1", "x:y:z", "127.0.0.1:0", ""])
      expect(await failure(bad)).toMatchObject({
        why: "invalid address",
        message: `dial tcp ${bad}: invalid address`,
      });
  });

  test("that was given up tells nothing", async () => {
    const said: string[] = [];
    const address = await listening(() => recorder().handler);
    for (const target of [address, "127.0.0.1:1"]) {
      const giveUp = tcpTransport(undefined).connect(
        target,
        () => {
          said.push("opened");
          return recorder().handler;
        },
        () => said.push("failed"),
      );
      giveUp();
    }
    await Bun.sleep(60);
    expect(said).toEqual([]);
  });

  test("resolves addresses as they are, and names to IPv4", async () => {
    const { resolve } = tcpTransport(undefined);
    expect([await resolve("10.0.0.1"), await resolve("fd00::1"), await resolve("localhost")]).toEqual([
      "10.0.0.1",
      "fd00::1",
      "127.0.0.1",
    ]);
    await expect(resolve("no such host")).rejects.toThrow();
  });

  test("a port that is taken cannot be listened on", async () => {
    const address = await listening(() => undefined);
    await expect(
      listenTcp(
        "127.0.0.1",
        Number(address.split(":")[1]),
        () => undefined,
        () => {},
      ),
    ).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});
