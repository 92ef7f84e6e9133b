// The container work thread. Pending removals of links are done together.
import { parentPort } from "node:worker_threads";
import { type ContainerLink, detach } from "./attach.ts";
import { workHere } from "./containerwork.ts";
import { failureOf, type WorkAnswer, type WorkRequest } from "./workmessages.ts";

/** Links per removal: the kernel holds the rtnl lock for about 1 ms each. */
const TOGETHER = 16;

const leaving: { id: number; link: ContainerLink }[] = [];

const answer = (message: WorkAnswer) => parentPort?.postMessage(message);
const refuse = (id: number, error: unknown) => answer({ id, failure: failureOf(error) });

function removeSome(): void {
  const some = leaving.splice(0, TOGETHER);
  if (leaving.length > 0) setImmediate(removeSome);
  try {
    const results = detach(some.map(({ link }) => link));
    for (const [i, { id }] of some.entries()) {
      const result = results[i];
      if (result instanceof Error) refuse(id, result);
      else answer({ id, result: result ?? false });
    }
  } catch (error) {
    for (const { id } of some) refuse(id, error);
  }
}

parentPort?.on("message", ({ id, operation, parameters }: WorkRequest) => {
  if (operation === "detach") {
    const [link] = parameters as [ContainerLink];
    if (leaving.push({ id, link }) === 1) setImmediate(removeSome);
    return;
  }
  const work = workHere[operation] as (...given: readonly unknown[]) => Promise<unknown>;
  work(...parameters).then(
    (result) => answer({ id, result }),
    (error) => refuse(id, error),
  );
});
