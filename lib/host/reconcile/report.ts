// What the router has put right in the kernel, as a part of the report.
import type { Culprit } from "./culprit.ts";
import type { Repair } from "./repairs.ts";

export interface RepairsReport {
  Count: number;
  /** The latest, oldest first. */
  Latest: {
    Time: string;
    Resource: string;
    Object: string;
    /** What was wrong with it. */
    Wrong: string;
    /** Who did it, where the kernel told. */
    By?: { Name: string; Pid: number };
  }[];
  /** Each kind of kernel state that is kept. */
  Resources: {
    Name: string;
    Repairs: number;
    Failures: number;
    /** Why it cannot be put right now. */
    Failing?: string;
  }[];
  /** What others undo again and again. */
  Fights: string[];
}

/** Where it is from: the reconciler. */
export interface RepairsSources {
  readonly repairs: { readonly count: number; readonly latest: readonly Repair[] };
  readonly resources: readonly {
    readonly name: string;
    readonly repairs: number;
    readonly failures: number;
    readonly failing: string | undefined;
  }[];
  readonly fights: readonly string[];
}

export function repairsReport({ repairs, resources, fights }: RepairsSources): RepairsReport {
  return {
    Count: repairs.count,
    Latest: repairs.latest.map(({ at, resource, object, wrong, by }) => ({
      Time: new Date(at).toISOString(),
      Resource: resource,
      Object: object,
      Wrong: wrong,
      ...(by && { By: culpritReport(by) }),
    })),
    Resources: resources.map(({ name, repairs: count, failures, failing }) => ({
      Name: name,
      Repairs: count,
      Failures: failures,
      ...(failing !== undefined && { Failing: failing }),
    })),
    Fights: [...fights],
  };
}

const culpritReport = ({ name, pid }: Culprit) => ({ Name: name, Pid: pid });
