// Parameters of a call, in the environment: https://www.cni.dev/docs/spec/#parameters
import { CNI_COMMANDS } from "../api/bodies.ts";
import { LINK_NAME_MAX } from "../netlink/link/message.ts";
import { CniError, CODE } from "./error.ts";

type Command = (typeof CNI_COMMANDS)[number];

export interface Environment {
  readonly command: Command;
  readonly containerId: string;
  /** Path of the network namespace; "" for a DEL without one. */
  readonly netns: string;
  readonly ifName: string;
  /** Folders of plugins. */
  readonly path: readonly string[];
  /** The words of CNI_ARGS ("KEY=VALUE;…"), of which runtimes pass many. */
  readonly args: ReadonlyMap<string, string>;
}

/** The environment, or the CNI part of it. */
export type Variables = Record<string, string | undefined>;

function invalid(variable: string, problem: string): CniError {
  return new CniError(CODE.invalidEnvironment, `${variable}: ${problem}`);
}

/** Read and check the environment; throws CniError. */
export function readEnvironment(variables: Variables): Environment {
  const command = CNI_COMMANDS.find((known) => known === variables["CNI_COMMAND"]);
  if (!command) {
    const given = variables["CNI_COMMAND"];
    throw invalid(
      "CNI_COMMAND",
      given ? `"${given}" is not one of ${CNI_COMMANDS.join(", ")}` : "required, but not set",
    );
  }
  const forContainer = command === "ADD" || command === "DEL" || command === "CHECK";
  const required = (variable: string, needed: boolean) => {
    const value = variables[variable] ?? "";
    if (needed && value === "") throw invalid(variable, "required, but not set");
    return value;
  };
  const containerId = required("CNI_CONTAINERID", forContainer);
  if (containerId !== "" && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/.test(containerId)) {
    throw invalid(
      "CNI_CONTAINERID",
      `"${containerId}" is not a container id (letters, digits, '_', '.' and '-')`,
    );
  }
  const ifName = required("CNI_IFNAME", forContainer);
  if (
    ifName !== "" &&
    (ifName.length > LINK_NAME_MAX || /[/:\s]/.test(ifName) || ifName === "." || ifName === "..")
  ) {
    throw invalid(
      "CNI_IFNAME",
      `"${ifName}" is not an interface name (at most ${LINK_NAME_MAX} characters, no '/', ':' or space)`,
    );
  }
  const netns = required("CNI_NETNS", command === "ADD" || command === "CHECK");
  return {
    command,
    containerId,
    netns,
    ifName,
    path: (variables["CNI_PATH"] ?? "").split(":").filter(Boolean),
    args: words(variables["CNI_ARGS"] ?? ""),
  };
}

const words = (text: string) =>
  new Map(
    text
      .split(";")
      .map((word) => word.split(/=(.*)/s))
      .filter(([key, value]) => key && value !== undefined)
      .map(([key = "", value = ""]) => [key, value] as const),
  );
