// The DNS server's sockets, on loopback: what a listener that could not be opened leaves, and clients that come and go.
import { afterEach, expect, test } from "bun:test";
import { connect } from "node:net";
import packet from "dns-packet";
import { Forwarder } from "../../lib/dns/forwarder.ts";
import type { Names } from "../../lib/dns/resolve.ts";
import { DnsServer } from "../../lib/dns/server.ts";
import { silentLog } from "../../lib/log/log.ts";
import { freePort } from "../support/freeport.ts";

const names = {
  version: 1,
  lookup: (name: string) => (name === "web.weave.local." ? [0x0a200001] : []),
  reverse: () => undefined,
  isParent: () => false,
};
const config = { domain: "weave.local.", ttl: 1 };

const servers: DnsServer[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.stop();
});

function dnsServer(known: Names = names): DnsServer {
  const local = { list: () => ["127.0.0.1"], watch: () => ({ close() {} }) };
  const server = new DnsServer(config, {
    names: known,
    forwarder: new Forwarder(() => [], 1_000),
    local,
    log: silentLog,
  });
  servers.push(server);
  return server;
}

const query = packet.encode({ id: 7, type: "query", questions: [{ name: "web.weave.local", type: "A" }] });

/** Ask over TCP on a connection of its own; undefined where it ends without an answer. */
async function askByTcp(port: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data: (_socket, bytes) => {
        const [answer] = packet.decode(Buffer.from(bytes.subarray(2))).answers ?? [];
        resolve(answer && "data" in answer ? String(answer.data) : undefined);
      },
      close: () => resolve(undefined),
      error: () => resolve(undefined),
    },
  });
  socket.write(Buffer.concat([Buffer.from([0, query.length]), query]));
  const answer = await promise;
  socket.end();
  return answer;
}

test("TCP clients one after the other are answered, more of them than there may be at once", async () => {
  const port = freePort();
  await dnsServer().listen(`127.0.0.1:${port}`);
  for (let i = 0; i < 300; i++) expect(await askByTcp(port)).toBe("10.32.0.1");
});

test("where TCP's port is taken, UDP's is free again, and listening succeeds once TCP's is", async () => {
  const server = dnsServer();
  const port = freePort();
  const blocker = Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } });
  const address = `127.0.0.1:${port}`;
  await expect(server.listen(address)).rejects.toThrow(`cannot answer DNS queries on ${address}`);
  expect(server.addresses).toEqual([]);
  const udp = await Bun.udpSocket({ hostname: "127.0.0.1", port });
  udp.close();
  blocker.stop(true);
  await server.listen(address);
  expect(await askByTcp(port)).toBe("10.32.0.1");
});

test("a listener is closed once it is not wanted any more, also while it is being opened; its port can be had again", async () => {
  const server = dnsServer();
  const address = `127.0.0.1:${freePort()}`;
  const opening = server.listen(address);
  server.unlisten(address);
  await opening;
  await server.listen(address);
  expect(server.addresses).toEqual([address]);
  server.unlisten(address);
  expect(server.addresses).toEqual([]);
  await server.listen(address);
});

test("a listener waits for the end of those before it, however far that is", async () => {
  for (let turns = 0; turns < 20; turns++) {
    const server = dnsServer();
    const address = `127.0.0.1:${freePort()}`;
    await server.listen(address);
    server.unlisten(address);
    const second = server.listen(address);
    server.unlisten(address);
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    await Promise.all([second, server.listen(address)]);
    expect(server.addresses).toEqual([address]);
    server.stop();
  }
});

test("one address has 32 connections over TCP at a time; another is answered all the same", async () => {
  const port = freePort();
  await dnsServer().listen(`127.0.0.1:${port}`);
  const opened = Array.from({ length: 40 }, () => connectFrom("127.0.0.1", port));
  const closed = () => opened.filter(({ socket }) => socket.closed).length;
  await Promise.all(opened.map(({ ready }) => ready));
  const askedBySome = opened.map((each) => each.ask());
  const answers = await Promise.all(askedBySome);
  expect([answers.filter((answer) => answer).length, closed()]).toEqual([32, 8]);
  const other = connectFrom("127.0.0.2", port);
  await other.ready;
  expect(await other.ask()).toBe(true);
  for (const { socket } of [...opened, other]) socket.destroy();
});

/** A connection from an address: `ready` once it is there or refused, `ask` resolves with whether it was answered. */
function connectFrom(localAddress: string, port: number) {
  const socket = connect({ host: "127.0.0.1", port, localAddress });
  socket.on("error", () => {});
  const event = (...names: string[]) =>
    new Promise<string>((resolve) => {
      for (const name of names) socket.once(name, () => resolve(name));
    });
  const ready = event("connect", "close");
  const answered = event("data", "close");
  const ask = async () => {
    if (!socket.destroyed) socket.write(Buffer.concat([Buffer.from([0, query.length]), query]));
    return (await answered) === "data";
  };
  return { socket, ready, ask };
}

test("a question that was asked before is answered under its own id, until a name changes", async () => {
  const found = new Map([["web.weave.local.", [0x0a200001]]]);
  const changing = {
    version: 0,
    lookup: (name: string) => found.get(name.toLowerCase()) ?? [],
    reverse: () => undefined,
    isParent: () => false,
  };
  const port = freePort();
  await dnsServer(changing).listen(`127.0.0.1:${port}`);
  const replies: Buffer[] = [];
  let arrived = Promise.withResolvers<void>();
  const client = await Bun.udpSocket({
    connect: { hostname: "127.0.0.1", port },
    socket: {
      data(_socket, bytes) {
        replies.push(Buffer.from(bytes));
        arrived.resolve();
      },
    },
  });
  let id = 0;
  const ask = async (name: string, more: packet.Packet = {}) => {
    arrived = Promise.withResolvers();
    const asked = packet.encode({ id: ++id, type: "query", questions: [{ name, type: "A" }], ...more });
    client.send(asked);
    await arrived.promise;
    const reply = packet.decode(replies.at(-1) ?? Buffer.alloc(0));
    expect([reply.id, reply.questions?.[0]?.name]).toEqual([id, name]);
    const additionals = reply.additionals?.length ?? 0;
    return [...(reply.answers ?? []).map((each) => ("data" in each ? each.data : "")), additionals];
  };
  try {
    const edns = { additionals: [{ type: "OPT", name: ".", udpPayloadSize: 1232 } as packet.OptAnswer] };
    for (let i = 0; i < 3; i++) {
      expect(await ask("web.weave.local")).toEqual(["10.32.0.1", 0]);
      expect(await ask("WEB.weave.local")).toEqual(["10.32.0.1", 0]);
      expect(await ask("web.weave.local", edns)).toEqual(["10.32.0.1", 1]);
      expect(await ask("none.weave.local")).toEqual([0]);
    }
    found.set("web.weave.local.", [0x0a200002]);
    changing.version++;
    for (let i = 0; i < 2; i++) expect(await ask("web.weave.local")).toEqual(["10.32.0.2", 0]);
    found.set("none.weave.local.", [0x0a200003]);
    changing.version++;
    for (let i = 0; i < 2; i++) expect(await ask("none.weave.local")).toEqual(["10.32.0.3", 0]);
    // More questions than are kept.
    for (let i = 0; i < 1_100; i++) await ask(`n${i}.weave.local`);
    expect(await ask("web.weave.local")).toEqual(["10.32.0.2", 0]);
    // The addresses of a name come in any order, also when it is asked for again.
    found.set("many.weave.local.", [1, 2, 3, 4, 5, 6]);
    changing.version++;
    const orders = new Set<string>();
    for (let i = 0; i < 20; i++) orders.add((await ask("many.weave.local")).join());
    expect(orders.size).toBeGreaterThan(1);
  } finally {
    client.close();
  }
});

test("a client that asks on and on for names of others is answered each time", async () => {
  const upstream = await Bun.udpSocket({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, bytes, port, from) {
        const reply = new Uint8Array(bytes);
        reply[2] = 0x80;
        socket.send(reply, port, from);
      },
    },
  });
  try {
    const forwarder = new Forwarder(() => ["127.0.0.1"], 5_000, upstream.port);
    for (let i = 0; i < 250; i++) {
      const asked = packet.encode({
        id: i,
        type: "query",
        questions: [{ name: `n${i}.example`, type: "A" }],
      });
      const reply = await forwarder.ask(new Uint8Array(asked), "udp", "10.32.0.1");
      expect([i, reply?.length]).toEqual([i, asked.length]);
    }
  } finally {
    upstream.close();
  }
});
