// weave version.
import { ApiError, apiClient } from "../../lib/api/client.ts";
import { Versions } from "../../lib/api/shapes.ts";
import { VERSION } from "../../lib/version.ts";
import { answer, JSON_OPTION } from "../answer.ts";
import type { Command } from "../arguments.ts";

/** The version of the running router; null where none runs. */
async function routerVersion(): Promise<string | null> {
  try {
    return await apiClient()("GET", `/report?format=${encodeURIComponent("{{.Version}}")}`);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    return null;
  }
}

export const version: Command = {
  name: "version",
  group: "Life cycle",
  description: "Print the versions of this command and of the router",
  options: JSON_OPTION,
  async run(args) {
    const router = await routerVersion();
    const text = [`weave ${VERSION}`, ...(router === null ? [] : [`weave-router ${router}`])].join("\n");
    answer(args, Versions, { weave: VERSION, router }, text);
  },
};
