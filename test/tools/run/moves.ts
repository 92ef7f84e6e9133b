// Files of tests that share no process with others.
import { readFileSync } from "node:fs";

/** What a file imports that moves its process into another network namespace, where others' sockets are not. */
const MOVES = /support\/(?:newnetns|routercontext)\.ts"/;

/** Whether a file of tests moves its process. */
export const movesProcess = (path: string): boolean => MOVES.test(readFileSync(path, "utf8"));
