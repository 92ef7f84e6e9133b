// A dashboard for Grafana, in its JSON model (https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/).

/** Of the JSON model: that of Grafana 11. */
const SCHEMA = 39;

interface Query {
  readonly expr: string;
  readonly legend: string;
}

interface Panel {
  readonly title: string;
  readonly type: "timeseries" | "stat" | "heatmap";
  /** Of Grafana: "Bps", "s", "percent", "short". */
  readonly unit: string;
  readonly queries: readonly Query[];
  readonly about?: string;
}

const AT = 'instance=~"$instance"';
const RATE = "$__rate_interval";

const quantiles = (metric: string, by: string, selector = AT): Query[] =>
  [0.5, 0.99].map((quantile) => ({
    expr: `histogram_quantile(${quantile}, sum by (le${by && `, ${by}`}) (rate(${metric}_bucket{${selector}}[${RATE}])))`,
    legend: `p${quantile * 100}${by && ` {{${by}}}`}`,
  }));

/** Rows of panels, in order. */
const ROWS: readonly { readonly title: string; readonly panels: readonly Panel[] }[] = [
  {
    title: "Health",
    panels: [
      {
        title: "Routers ready",
        type: "stat",
        unit: "short",
        queries: [{ expr: `sum(weave_ready{${AT}})`, legend: "ready" }],
      },
      {
        title: "Connections",
        type: "timeseries",
        unit: "short",
        queries: [{ expr: `sum by (state) (weave_connections{${AT}})`, legend: "{{state}}" }],
      },
      {
        title: "Connections ended",
        type: "timeseries",
        unit: "short",
        queries: [
          {
            expr: `sum by (instance) (increase(weave_connection_terminations_total{${AT}}[${RATE}]))`,
            legend: "{{instance}}",
          },
        ],
      },
      {
        title: "Repairs",
        type: "timeseries",
        unit: "short",
        about: "Changes by others to the kernel state of a host that the router repaired.",
        queries: [
          {
            expr: `sum by (instance, resource) (increase(weave_reconcile_repairs_total{${AT}}[${RATE}]))`,
            legend: "{{instance}} {{resource}}",
          },
          {
            expr: `sum by (instance) (increase(weave_reconcile_failures_total{${AT}}[${RATE}]))`,
            legend: "{{instance}} failed",
          },
          { expr: `weave_reconcile_fights{${AT}}`, legend: "{{instance}} fights" },
        ],
      },
      {
        title: "Unexpected errors",
        type: "timeseries",
        unit: "short",
        queries: [
          { expr: `increase(weave_unexpected_errors_total{${AT}}[${RATE}])`, legend: "{{instance}}" },
        ],
      },
    ],
  },
  {
    title: "Peers",
    panels: [
      {
        title: "Traffic by overlay",
        type: "timeseries",
        unit: "Bps",
        queries: [
          {
            expr: `sum by (overlay, direction) (rate(weave_peer_bytes_total{${AT}}[${RATE}]))`,
            legend: "{{overlay}} {{direction}}",
          },
        ],
      },
      {
        title: "Traffic by peer",
        type: "timeseries",
        unit: "Bps",
        queries: [
          {
            expr: `topk(10, sum by (instance, nickname) (rate(weave_peer_bytes_total{${AT}}[${RATE}])))`,
            legend: "{{instance}} – {{nickname}}",
          },
        ],
      },
      {
        title: "Round trip",
        type: "timeseries",
        unit: "s",
        queries: [
          { expr: `topk(10, weave_peer_round_trip_seconds{${AT}})`, legend: "{{instance}} – {{nickname}}" },
        ],
      },
      {
        title: "Peers by overlay",
        type: "timeseries",
        unit: "short",
        queries: [{ expr: `sum by (overlay) (weave_peer_overlay{${AT}})`, legend: "{{overlay}}" }],
      },
      {
        title: "Last heard",
        type: "timeseries",
        unit: "s",
        queries: [
          { expr: `topk(10, weave_peer_last_heard_seconds{${AT}})`, legend: "{{instance}} – {{nickname}}" },
          { expr: `sum(weave_peer_silent{${AT}})`, legend: "silent peers" },
        ],
      },
      {
        title: "Heartbeats lost",
        type: "timeseries",
        unit: "short",
        queries: [
          {
            expr: `sum by (instance, nickname) (increase(weave_peer_heartbeats_lost_total{${AT}}[${RATE}]))`,
            legend: "{{instance}} – {{nickname}}",
          },
        ],
      },
      {
        title: "Lowest MTU",
        type: "timeseries",
        unit: "decbytes",
        queries: [{ expr: `min by (instance) (weave_peer_mtu_bytes{${AT}})`, legend: "{{instance}}" }],
      },
      {
        title: "Drops",
        type: "timeseries",
        unit: "pps",
        queries: [
          {
            expr: `sum by (where, reason) (rate(weave_dropped_frames_total{${AT}}[${RATE}]))`,
            legend: "{{where}}: {{reason}}",
          },
        ],
      },
      {
        title: "Sleeve",
        type: "timeseries",
        unit: "pps",
        queries: [
          {
            expr: `sum by (direction) (rate(weave_sleeve_frames_total{${AT}}[${RATE}]))`,
            legend: "{{direction}}",
          },
        ],
      },
      {
        title: "Gossip",
        type: "timeseries",
        unit: "Bps",
        queries: [
          {
            expr: `sum by (direction) (rate(weave_gossip_bytes_total{${AT}}[${RATE}]))`,
            legend: "{{direction}}",
          },
        ],
      },
      {
        title: "Addresses seen on the fast datapath",
        type: "timeseries",
        unit: "short",
        queries: [{ expr: `sum by (instance) (weave_flows{${AT}})`, legend: "{{instance}}" }],
      },
    ],
  },
  {
    title: "Addresses and containers",
    panels: [
      {
        title: "Addresses in use",
        type: "timeseries",
        unit: "percentunit",
        queries: [
          { expr: `sum(weave_ips{state="local-used"}) / max(weave_max_ips)`, legend: "of the range" },
        ],
      },
      {
        title: "Addresses in use by host",
        type: "timeseries",
        unit: "short",
        queries: [
          { expr: `sum by (instance) (weave_ips{state="local-used", ${AT}})`, legend: "{{instance}}" },
        ],
      },
      {
        title: "Addresses of peers that are gone",
        type: "timeseries",
        unit: "percent",
        queries: [
          { expr: `max(weave_ipam_unreachable_percentage{${AT}})`, legend: "share" },
          { expr: `max(weave_ipam_unreachable_count{${AT}})`, legend: "peers" },
        ],
      },
      {
        title: "Waiting requests",
        type: "timeseries",
        unit: "short",
        queries: [
          { expr: `sum(weave_ipam_pending_allocates{${AT}})`, legend: "allocates" },
          { expr: `sum(weave_ipam_pending_claims{${AT}})`, legend: "claims" },
        ],
      },
      {
        title: "CNI calls",
        type: "timeseries",
        unit: "reqps",
        queries: [
          {
            expr: `sum by (command, outcome) (rate(weave_cni_seconds_count{${AT}}[${RATE}]))`,
            legend: "{{command}} {{outcome}}",
          },
        ],
      },
      {
        title: "CNI latency",
        type: "timeseries",
        unit: "s",
        queries: quantiles("weave_cni_seconds", "command"),
      },
      {
        title: "Latency of the control API",
        type: "timeseries",
        unit: "s",
        queries: quantiles("weave_api_seconds", "path"),
      },
      {
        title: "DNS names",
        type: "timeseries",
        unit: "short",
        queries: [{ expr: `sum by (instance) (weave_dns_entries{${AT}})`, legend: "{{instance}}" }],
      },
    ],
  },
  {
    title: "Network policy",
    panels: [
      {
        title: "Nodes with policies in force",
        type: "stat",
        unit: "short",
        queries: [{ expr: "sum(weavenpc_in_sync)", legend: "in sync" }],
      },
      {
        title: "Blocked connections",
        type: "timeseries",
        unit: "cps",
        queries: [
          {
            expr: `sum by (protocol, dport) (rate(weavenpc_blocked_connections_total[${RATE}]))`,
            legend: "{{protocol}} {{dport}}",
          },
        ],
      },
      {
        title: "Lag behind the API server",
        type: "timeseries",
        unit: "s",
        queries: quantiles("weavenpc_lag_seconds", "", ""),
      },
      {
        title: "Errors and repairs",
        type: "timeseries",
        unit: "short",
        queries: [
          {
            expr: `sum by (instance) (increase(weavenpc_policy_enforcement_errors[${RATE}]))`,
            legend: "{{instance}} errors",
          },
          {
            expr: `sum by (instance) (increase(weavenpc_repairs_total[${RATE}]))`,
            legend: "{{instance}} repairs",
          },
          { expr: `sum by (kind) (weavenpc_unreadable_objects)`, legend: "unreadable {{kind}}" },
        ],
      },
    ],
  },
];

const DATASOURCE = { type: "prometheus", uid: "$" + "{datasource}" };
const [WIDTH, HEIGHT, COLUMNS] = [8, 7, 3];

/** Return the dashboard. */
export function dashboard(): object {
  let y = 0;
  let id = 0;
  const panels = ROWS.flatMap(({ title, panels: all }) => {
    const row = {
      id: ++id,
      type: "row",
      title,
      collapsed: false,
      panels: [],
      gridPos: { x: 0, y: y++, w: 24, h: 1 },
    };
    const placed = all.map((panel, i) => {
      const at = { x: (i % COLUMNS) * WIDTH, y: y + Math.floor(i / COLUMNS) * HEIGHT, w: WIDTH, h: HEIGHT };
      return panelModel(panel, ++id, at);
    });
    y += Math.ceil(all.length / COLUMNS) * HEIGHT;
    return [row, ...placed];
  });
  return {
    uid: "weave",
    title: "weave",
    tags: ["weave", "network"],
    schemaVersion: SCHEMA,
    editable: true,
    graphTooltip: 1,
    refresh: "30s",
    time: { from: "now-3h", to: "now" },
    timezone: "browser",
    templating: {
      list: [
        { name: "datasource", type: "datasource", query: "prometheus", label: "Data source" },
        {
          name: "instance",
          type: "query",
          label: "Host",
          datasource: DATASOURCE,
          query: { query: "label_values(weave_ready, instance)", refId: "instance" },
          refresh: 2,
          sort: 1,
          multi: true,
          includeAll: true,
          allValue: ".*",
          current: { text: ["All"], value: ["$__all"] },
        },
      ],
    },
    panels,
  };
}

function panelModel({ title, type, unit, queries, about }: Panel, id: number, gridPos: object): object {
  return {
    id,
    type,
    title,
    ...(about !== undefined && { description: about }),
    gridPos,
    datasource: DATASOURCE,
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options: type === "stat" ? { reduceOptions: { calcs: ["lastNotNull"] } } : { tooltip: { mode: "multi" } },
    targets: queries.map(({ expr, legend }, i) => ({
      refId: String.fromCharCode(65 + i),
      datasource: DATASOURCE,
      expr,
      legendFormat: legend,
    })),
  };
}
