// Standard input of the plugin: loaded for every container, so without what reads a configuration.
import { readBounded } from "../sys/readbounded.ts";

/** Bytes; far more than any configuration needs. */
export const MAX_CONFIG_BYTES = 1 << 20;

/** The configuration; undefined where it is longer than it may be. */
export const readInput = () => readBounded(Bun.stdin.stream(), MAX_CONFIG_BYTES);
