// What /metrics says of an original's report has to be what the original said, name by name, with types and labels.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { metricsText } from "../../lib/api/metrics.ts";
import type { Report } from "../../lib/api/report.ts";

const file = join(import.meta.dir, "../vectors/original/templates.json");
const { report, metrics } = (await Bun.file(file).json()) as { report: Report; metrics: string };

/** Lines "name{labels} value", and "name type", with the labels in order and plain numbers. */
function lines(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    if (line.startsWith("# TYPE ")) return [line.slice("# TYPE ".length)];
    const [, name = "", labels = "", value] = /^(weave_\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    return name === "" ? [] : [`${name}{${labels.split(",").sort().join()}} ${Number(value)}`];
  });
}

test("the metrics of an original", async () => {
  const ours = lines(await metricsText({ ...report, Notes: [], Containers: [] }));
  expect(lines(metrics).filter((line) => !ours.includes(line))).toEqual([]);
  expect(lines(metrics).length).toBe(19);
});

const fastdp = (diagnostics: unknown, count: number) => {
  const MACs = Array.from({ length: count }, (_, i) => ({
    Mac: `${i}`,
    Name: "",
    NickName: "",
    LastSeen: "",
  }));
  return metricsText({
    ...report,
    Router: { ...report.Router, MACs, OverlayDiagnostics: { fastdp: diagnostics } },
  });
};

test("fast path counters count container packets and bytes by direction", async () => {
  const flowCache = { SentPackets: 11, SentBytes: 1_200, ReceivedPackets: 13, ReceivedBytes: 1_400 };
  const text = await fastdp({ interface: "vxlan-6784", flowCache }, 0);
  expect(lines(text).filter((line) => line.startsWith("weave_fast_path_"))).toEqual([
    "weave_fast_path_packets_total counter",
    'weave_fast_path_packets_total{direction="sent"} 11',
    'weave_fast_path_packets_total{direction="received"} 13',
    "weave_fast_path_bytes_total counter",
    'weave_fast_path_bytes_total{direction="sent"} 1200',
    'weave_fast_path_bytes_total{direction="received"} 1400',
  ]);
  expect(await fastdp({ interface: "vxlan-6784" }, 0)).not.toContain("fast_path");
});

test("flows are counted where there is a fast datapath", async () => {
  expect(await fastdp({ interface: "vxlan-6784" }, 3)).toContain("\nweave_flows 3\n");
  expect(await fastdp({ unavailable: "no VXLAN" }, 3)).not.toContain("weave_flows");
});
