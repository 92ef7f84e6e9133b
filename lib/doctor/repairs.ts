// Kernel state changed by other programs, repaired by the router or not, from its report.
import * as v from "valibot";
import { type Finding, ok, problem, warning } from "./finding.ts";

/** Age up to which a repair is reported. */
const RECENT_MS = 60 * 60_000;
/** Objects that are named. */
const MAX_OBJECTS = 5;

export const RepairsSchema = v.object({
  Count: v.number(),
  Latest: v.array(
    v.object({
      Time: v.pipe(v.string(), v.isoTimestamp()),
      Object: v.string(),
      Wrong: v.string(),
      By: v.optional(v.object({ Name: v.string(), Pid: v.number() })),
    }),
  ),
  Resources: v.array(v.object({ Name: v.string(), Failing: v.optional(v.string()) })),
  Fights: v.array(v.string()),
});
type RepairsSeen = v.InferOutput<typeof RepairsSchema>;

const CHECK = "repairs";
const ADVICE =
  "exempt it in the program that does it (NetworkManager: unmanaged-devices; systemd-networkd: Unmanaged=yes; firewalld: zone trusted; Docker puts its rules first when it creates networks: nothing to do)";

/** `now`: ms since the epoch. */
export function repairFindings(repairs: RepairsSeen, now: number): Finding[] {
  const failing = repairs.Resources.flatMap(({ Name, Failing }) =>
    Failing === undefined
      ? []
      : [
          problem(
            CHECK,
            `${Name} cannot be repaired: ${Failing}`,
            "see 'weave logs'; 'weave stop' and 'weave launch' recreate everything",
          ),
        ],
  );
  const fights = repairs.Fights.map((text) => problem(CHECK, text, ADVICE));
  const findings = [...failing, ...fights, ...recent(repairs, now)];
  if (findings.length > 0) return findings;
  return [
    ok(
      CHECK,
      repairs.Count === 0
        ? "no other program changed kernel state of the router"
        : `${repairs.Count} changes by others were repaired, none of them in the last hour`,
    ),
  ];
}

/** Recent repairs by object, the latest first. */
function recent({ Latest }: RepairsSeen, now: number): Finding[] {
  const objects = new Map<string, { times: number; last: RepairsSeen["Latest"][number] }>();
  for (const last of Latest) {
    if (now - Date.parse(last.Time) > RECENT_MS) continue;
    const times = (objects.get(last.Object)?.times ?? 0) + 1;
    objects.delete(last.Object);
    objects.set(last.Object, { times, last });
  }
  const shown = [...objects.values()].reverse();
  const lines = shown.slice(0, MAX_OBJECTS).map(({ times, last: { Object: object, Wrong, By } }) => {
    const count = times > 1 ? `, ${times} times` : "";
    return `${object} (${Wrong}${By ? ` by ${By.Name} (pid ${By.Pid})` : ""}${count})`;
  });
  if (lines.length === 0) return [];
  const more = shown.length > lines.length ? `, and ${shown.length - lines.length} more` : "";
  const found = `changed by others in the last hour, and repaired: ${lines.join(", ")}${more}`;
  return [warning(CHECK, found, `if that continues, ${ADVICE}`)];
}
