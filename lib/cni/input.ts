// Standard input of the plugin. Loaded for every container: imports nothing that parses configurations.
import { readBounded } from "../sys/readbounded.ts";

/** Limit of a configuration. */
export const MAX_CONFIG_BYTES = 1 << 20;

/** Read the configuration; undefined if it is too long. */
export const readInput = () => readBounded(Bun.stdin.stream(), MAX_CONFIG_BYTES);
