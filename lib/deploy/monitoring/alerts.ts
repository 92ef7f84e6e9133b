// Alerts for Prometheus (https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/): each says what is
// wrong, and which help topic has the remedy.

interface Alert {
  readonly name: string;
  readonly expr: string;
  /** How long it has to hold. */
  readonly for: string;
  readonly severity: "critical" | "warning" | "info";
  readonly summary: string;
  /** Topic of `weave help`, and the section in it. */
  readonly topic: string;
  readonly section: string;
}

const TROUBLE = "troubleshooting";

const ALERTS: readonly Alert[] = [
  {
    name: "WeaveRouterDown",
    expr: 'up{job="weave"} == 0',
    for: "2m",
    severity: "critical",
    summary:
      "the router on {{ $labels.instance }} does not answer; traffic over the fast datapath continues, new containers get no address",
    topic: TROUBLE,
    section: "is-all-well",
  },
  {
    name: "WeaveRoutersAbsent",
    expr: 'absent(up{job="weave"})',
    for: "5m",
    severity: "critical",
    summary: "Prometheus finds no router: either none runs, or nothing tells it to scrape them",
    topic: "monitoring",
    section: "alerts-and-a-dashboard",
  },
  {
    name: "WeaveNotReady",
    expr: "weave_ready == 0",
    for: "5m",
    severity: "critical",
    summary: "{{ $labels.instance }} has not joined the network",
    topic: TROUBLE,
    section: "is-all-well",
  },
  {
    name: "WeavePeerNotConnected",
    expr: 'sum by (instance) (weave_connections{state=~"failed|retrying|pending"}) > 0',
    for: "10m",
    severity: "warning",
    summary: "{{ $value }} peers of {{ $labels.instance }} are not connected",
    topic: TROUBLE,
    section: "a-peer-is-not-connected",
  },
  {
    name: "WeavePeerSilent",
    expr: "weave_peer_silent == 1",
    for: "1m",
    severity: "critical",
    summary: "{{ $labels.instance }} hears nothing from peer {{ $labels.nickname }}",
    topic: TROUBLE,
    section: "a-peer-is-not-connected",
  },
  {
    name: "WeaveConnectionsFlap",
    expr: "increase(weave_connection_terminations_total[10m]) > 10",
    for: "10m",
    severity: "warning",
    summary: "connections of {{ $labels.instance }} end again and again: {{ $value | humanize }} in 10 min",
    topic: TROUBLE,
    section: "a-peer-is-not-connected",
  },
  {
    name: "WeaveSlowOverlay",
    expr: 'weave_peer_overlay{overlay="sleeve"} == 1',
    for: "15m",
    severity: "info",
    summary: "frames from {{ $labels.instance }} to {{ $labels.nickname }} go by sleeve, which is slower",
    topic: TROUBLE,
    section: "slow-or-on-sleeve",
  },
  {
    name: "WeaveAddressesUnreachable",
    expr: "weave_ipam_unreachable_percentage > 25",
    for: "10m",
    severity: "warning",
    summary: "{{ $value | humanize }} % of the addresses belong to peers that are gone",
    topic: TROUBLE,
    section: "no-addresses",
  },
  {
    name: "WeaveSplitBrain",
    expr: "max(weave_ipam_unreachable_percentage) - min(weave_ipam_unreachable_percentage) > 0",
    for: "5m",
    severity: "critical",
    summary: "peers do not agree on who is reachable: the network is in parts",
    topic: TROUBLE,
    section: "a-peer-is-not-connected",
  },
  {
    name: "WeaveAddressesPending",
    expr: "weave_ipam_pending_allocates > 0",
    for: "3m",
    severity: "critical",
    summary: "{{ $value }} containers on {{ $labels.instance }} wait for an address",
    topic: TROUBLE,
    section: "no-addresses",
  },
  {
    name: "WeaveAddressRangeNearlyFull",
    expr: 'sum(weave_ips{state="local-used"}) / max(weave_max_ips) > 0.85',
    for: "10m",
    severity: "warning",
    summary: "{{ $value | humanizePercentage }} of the address range is in use",
    topic: TROUBLE,
    section: "no-addresses",
  },
  {
    name: "WeaveFramesDropped",
    expr: "sum by (instance, where, reason) (rate(weave_dropped_frames_total[5m])) > 10",
    for: "10m",
    severity: "warning",
    summary:
      "{{ $labels.instance }} drops {{ $value | humanize }} frames a second ({{ $labels.where }}: {{ $labels.reason }})",
    topic: TROUBLE,
    section: "traffic-of-containers",
  },
  {
    name: "WeaveCniFails",
    expr: 'sum by (instance, command) (increase(weave_cni_seconds_count{outcome="failure"}[10m])) > 0',
    for: "5m",
    severity: "warning",
    summary: "CNI {{ $labels.command }} fails on {{ $labels.instance }}",
    topic: TROUBLE,
    section: "no-addresses",
  },
  {
    name: "WeaveCniSlow",
    expr: 'histogram_quantile(0.9, sum by (instance, le) (rate(weave_cni_seconds_bucket{command="ADD"}[10m]))) > 2',
    for: "10m",
    severity: "warning",
    summary:
      "a tenth of CNI ADD calls on {{ $labels.instance }} take {{ $value | humanizeDuration }} or more",
    topic: TROUBLE,
    section: "no-addresses",
  },
  {
    name: "WeaveRepairsFail",
    expr: "increase(weave_reconcile_failures_total[10m]) > 0",
    for: "10m",
    severity: "warning",
    summary: "{{ $labels.instance }} cannot repair its {{ $labels.resource }}",
    topic: TROUBLE,
    section: "beside-network-managers-and-firewalls",
  },
  {
    name: "WeaveRepairFight",
    expr: "weave_reconcile_fights > 0",
    for: "10m",
    severity: "warning",
    summary: "another program on {{ $labels.instance }} keeps undoing what weave needs",
    topic: TROUBLE,
    section: "beside-network-managers-and-firewalls",
  },
  {
    name: "WeaveUnexpectedErrors",
    // A router that crashes starts again at once, and counts errors from 0: only the number of reports outlives it.
    expr: "increase(weave_unexpected_errors_total[15m]) > 0 or increase(weave_crash_reports_total[15m]) > 0",
    for: "0m",
    severity: "warning",
    summary:
      "the router on {{ $labels.instance }} had an unexpected error, or crashed; see its log, and 'weave doctor' for reports",
    topic: TROUBLE,
    section: "the-log",
  },
  {
    name: "WeaveNpcDown",
    // A Service has an endpoint for it on each node, in a cluster without policies, too: there none ever answers.
    expr: 'up{job="weave-npc"} == 0 and on () max(max_over_time(up{job="weave-npc"}[1d])) == 1',
    for: "5m",
    severity: "warning",
    summary:
      "weave-npc on {{ $labels.instance }} does not answer: policies stay in force, changes do not reach it",
    topic: "policy",
    section: "how-it-works",
  },
  {
    name: "WeaveNpcNotInSync",
    expr: "weavenpc_in_sync == 0",
    for: "5m",
    severity: "critical",
    summary: "policies are not in force yet on {{ $labels.instance }}",
    topic: "policy",
    section: "how-it-works",
  },
  {
    name: "WeaveNpcNotFollowing",
    expr: "weavenpc_following == 0",
    for: "10m",
    severity: "critical",
    summary:
      "weave-npc on {{ $labels.instance }} cannot follow each {{ $labels.kind }} at the API server: changes are not in force",
    topic: "policy",
    section: "how-it-works",
  },
  {
    name: "WeaveNpcErrors",
    expr: "increase(weavenpc_policy_enforcement_errors[10m]) > 0",
    for: "5m",
    severity: "warning",
    summary: "weave-npc on {{ $labels.instance }} cannot enforce all policies; its log says why",
    topic: "policy",
    section: "how-it-works",
  },
  {
    name: "WeaveNpcUnreadable",
    expr: "weavenpc_unreadable_objects > 0",
    for: "5m",
    severity: "warning",
    summary:
      "{{ $labels.kind }} {{ $labels.namespace }}/{{ $labels.name }} cannot be read, and denies what it might allow",
    topic: "policy",
    section: "network-policy",
  },
  {
    name: "WeaveNpcSlow",
    expr: "histogram_quantile(0.9, sum by (instance, le) (rate(weavenpc_lag_seconds_bucket[10m]))) > 5",
    for: "10m",
    severity: "warning",
    summary:
      "changes of policies take {{ $value | humanizeDuration }} to be in force on {{ $labels.instance }}",
    topic: "policy",
    section: "how-it-works",
  },
];

/** Rules as a file for Prometheus, or the spec of a PrometheusRule. `runbooks` is where the help topics are served. */
export function alertRules(runbooks: string | undefined): object {
  return {
    groups: [
      {
        name: "weave",
        rules: ALERTS.map(({ name, expr, for: duration, severity, summary, topic, section }) => ({
          alert: name,
          expr,
          for: duration,
          labels: { severity },
          annotations: {
            summary,
            runbook: `weave help ${topic}`,
            ...(runbooks !== undefined && {
              runbook_url: `${runbooks.replace(/\/$/, "")}/${topic}.md#${section}`,
            }),
          },
        })),
      },
    ],
  };
}
