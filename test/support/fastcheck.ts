// fast-check with the seed of the run. Loaded by the files that use it, not with the seed before all files: that takes 25 ms.
import fc from "fast-check";
import { SEED } from "./seed.ts";

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: SEED });

export { fc };
