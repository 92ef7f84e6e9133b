// The target of a trace: the tunnel is that to the next hop, which is another peer where the target is reached through one.
import { expect, test } from "bun:test";
import type { Report } from "../../lib/api/report.ts";
import { targetOf } from "../../lib/trace/target.ts";

const connection = (name: string, mtu: number) => ({
  Address: `192.0.2.${name}:6783`,
  Outbound: true,
  State: "established",
  Info: "",
  Attrs: { name: "fastdp", mtu, encrypted: true },
  Peer: { Name: name, NickName: `host${name}` },
});
const route = (Dest: string, Via: string) => ({ Dest, Via });
const report = (routes: object[], connections = [connection("2", 1_400), connection("3", 1_300)]) =>
  ({
    Router: {
      Port: 6_783,
      Peers: ["1", "2", "3", "4"].map((Name) => ({
        Name,
        NickName: `host${Name}`,
        ShortID: Number(Name) * 10,
      })),
      UnicastRoutes: routes,
      Connections: connections,
    },
  }) as unknown as Report;

const ROUTES = [route("1", "1"), route("2", "2"), route("3", "2"), route("4", "3")];

test.each<[string, object[], { shortId: number; tunnel: object | undefined }]>([
  ["2", ROUTES, { shortId: 20, tunnel: { neighbour: "host2", mtu: 1_400 } }],
  // There is a connection to it, too; frames do not go by that.
  ["3", ROUTES, { shortId: 30, tunnel: { neighbour: "host2", mtu: 1_400 } }],
  ["4", ROUTES, { shortId: 40, tunnel: { neighbour: "host3", mtu: 1_300 } }],
  ["3", [], { shortId: 30, tunnel: { neighbour: "host3", mtu: 1_300 } }],
  ["4", [], { shortId: 40, tunnel: undefined }],
  ["5", ROUTES, { shortId: -1, tunnel: undefined }],
])("peer %s, by the routes %j", (name, routes, expected) => {
  const target = targetOf(report(routes), { name, nickname: "n" }, "runs 2.x");
  expect(target).toMatchObject({ kind: "peer", nickname: "n", unseen: "runs 2.x", ...expected });
});
