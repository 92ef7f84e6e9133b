// A CNI call that the entry program (cniwire.ts) has sent, and that was not answered within 1 s.
import { read } from "node:fs";
import { promisify } from "node:util";
import type { CniOutcome } from "./bodies.ts";
import { RouterEndedError, whileAnswering } from "./client.ts";
import { decodeCniAnswer, MAX_CNI_ANSWER, PENDING_FD } from "./cniwire.ts";
import { controlSocket } from "./paths.ts";

const readSome = promisify(read);

/**
 * Return the answer that comes over the connection `fd`; undefined where the router leaves the call to the plugin. Throws as
 * ApiClient does.
 */
export function pendingAnswer(timeoutMs: number, fd = PENDING_FD): Promise<CniOutcome | undefined> {
  const socket = controlSocket();
  return whileAnswering({ socket, what: "POST /cni/raw", timeoutMs }, async (signal) => {
    const buffer = Buffer.alloc(MAX_CNI_ANSWER);
    let length = 0;
    while (length < buffer.length && !signal.aborted) {
      const { bytesRead } = await readSome(fd, buffer, length, buffer.length - length, null);
      length += bytesRead;
      const answer = decodeCniAnswer(buffer.subarray(0, length));
      if (answer !== "incomplete") return answer;
      if (bytesRead === 0) break;
    }
    throw new RouterEndedError(socket);
  });
}
