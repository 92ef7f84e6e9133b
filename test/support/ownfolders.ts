// The folders of a router that runs in the process of a test.

const VARIABLES = ["WEAVE_RUN_DIR", "WEAVE_STATE_DIR"];

/** Have this process find runs and state in a folder; the function sets it back. */
export function useFolder(folder: string): () => void {
  const before = VARIABLES.map((name) => [name, process.env[name]] as const);
  for (const name of VARIABLES) process.env[name] = folder;
  return () => {
    for (const [name, value] of before)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  };
}
