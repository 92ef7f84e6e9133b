// The container work thread. Pending removals of links are done together: they are answered once the links are marked as leaving,
// and what is asked of this thread afterwards finds them removed.
import { parentPort } from "node:worker_threads";
import { NETLINK_ROUTE, NetlinkSocket } from "../netlink/socket.ts";
import { attachBy } from "./attach.ts";
import { type ContainerWork, workHere } from "./containerwork.ts";
import { beginDetach, type Detaching } from "./detach.ts";
import type { ContainerLink } from "./hostend.ts";
import { failureOf, type WorkAnswer, type WorkRequest } from "./workmessages.ts";

/** Links per removal: the kernel holds the rtnl lock for about 1 ms each. */
const TOGETHER = 16;
/** Pause after a removal that failed. */
const RETRY_MS = 1_000;

/** This thread always returns to the host's namespace. */
const host = new NetlinkSocket(NETLINK_ROUTE);
const workBySocket: ContainerWork = {
  ...workHere,
  attach: async (attachment) => attachBy(host, attachment),
};

const leaving: { id: number; link: ContainerLink }[] = [];

const answer = (message: WorkAnswer) => parentPort?.postMessage(message);
const refuse = (id: number, error: unknown) => answer({ id, failure: failureOf(error) });

function removeSome(): void {
  const some = leaving.splice(0, TOGETHER);
  if (leaving.length > 0) setImmediate(removeSome);
  try {
    const detaching = beginDetach(some.map(({ link }) => link));
    for (const [i, { id }] of some.entries()) {
      const result = detaching.outcomes[i];
      if (result instanceof Error) refuse(id, result);
      else answer({ id, result: result ?? false });
    }
    finish(detaching);
  } catch (error) {
    for (const { id } of some) refuse(id, error);
  }
}

function finish(detaching: Detaching): void {
  try {
    detaching.finish();
  } catch {
    setTimeout(() => finish(detaching), RETRY_MS);
  }
}

parentPort?.on("message", ({ id, operation, parameters }: WorkRequest) => {
  if (operation === "detach") {
    const [link] = parameters as [ContainerLink];
    if (leaving.push({ id, link }) === 1) setImmediate(removeSome);
    return;
  }
  const work = workBySocket[operation] as (...given: readonly unknown[]) => Promise<unknown>;
  work(...parameters).then(
    (result) => answer({ id, result }),
    (error) => refuse(id, error),
  );
});
