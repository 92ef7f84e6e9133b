// Programs that should run do, and answer.
import { hasFault, type Model, numbers } from "../model.ts";
import type { World } from "../world.ts";

/** Return which do not. */
export async function wrongPrograms(world: World, model: Model): Promise<string[]> {
  const wrong: string[] = [];
  for (const host of numbers(model)) {
    const state = model.hosts[host - 1];
    for (const program of ["router", "npc"] as const) {
      const runs = world.pid(host, program) !== undefined;
      if (state && runs !== (state[program] !== "down"))
        wrong.push(
          `host ${host}: ${program} ${runs ? "runs" : "does not run"}, and should be ${state[program]}`,
        );
    }
  }
  return wrong;
}

/** Return which controllers that should be ready are not. */
export async function wrongReadiness(world: World, model: Model): Promise<string[]> {
  const ready = numbers(model).filter(
    (host) => model.hosts[host - 1]?.npc === "running" && !hasFault(model, "api", host),
  );
  const watching = Math.min(world.api.watching("Pod"), world.api.watching("NetworkPolicy"));
  if (watching < ready.length) return [`${watching} of ${ready.length} controllers watch the API server`];
  return (await Promise.all(ready.map((host) => readiness(world, host)))).flat();
}

async function readiness(world: World, host: number): Promise<string[]> {
  const { stdout } = await world.host(host).exec(["curl", "-s", "-m", "2", "http://127.0.0.1:6781/readyz"]);
  return stdout === "ok\n" ? [] : [`host ${host}: weave-npc is not ready: ${stdout.trim()}`];
}
