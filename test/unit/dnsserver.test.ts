// The DNS server's sockets, on loopback: what a listener that could not be opened leaves, and clients that come and go.
import { afterEach, expect, test } from "bun:test";
import packet from "dns-packet";
import { Forwarder } from "../../lib/dns/forwarder.ts";
import { DnsServer } from "../../lib/dns/server.ts";
import { silentLog } from "../../lib/log/log.ts";

const names = {
  lookup: (name: string) => (name === "web.weave.local." ? [0x0a200001] : []),
  reverse: () => undefined,
  isParent: () => false,
};
const config = { domain: "weave.local.", ttl: 1 };

const servers: DnsServer[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.stop();
});

function dnsServer(): DnsServer {
  const local = { list: () => ["127.0.0.1"], watch: () => ({ close() {} }) };
  const server = new DnsServer(config, {
    names,
    forwarder: new Forwarder(() => [], 1_000),
    local,
    log: silentLog,
  });
  servers.push(server);
  return server;
}

/** A port that is free for UDP and TCP just now. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
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
  const blocker = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const address = `127.0.0.1:${blocker.port}`;
  await expect(server.listen(address)).rejects.toThrow(`cannot answer DNS queries on ${address}`);
  expect(server.addresses).toEqual([]);
  const udp = await Bun.udpSocket({ hostname: "127.0.0.1", port: blocker.port });
  udp.close();
  const { port } = blocker;
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
