// Settings under /proc/sys as desired state. The kernel does not notify of most of them.
import { KeptSysctls, type Sysctl, sysctlGet, sysctlSet } from "../sysctl.ts";
import type { Change, Resource, Source } from "./resource.ts";

export interface SysctlChange extends Change {
  readonly sysctl: Sysctl;
}

/** The settings that `desired` returns, but those that this kernel lacks. */
export class Sysctls implements Resource<readonly Sysctl[], ReadonlyMap<string, string>, SysctlChange> {
  /** Those that cannot be written, as where /proc/sys is read-only. */
  readonly #refused = new Set<string>();
  readonly #values = new KeptSysctls();

  constructor(
    readonly name: string,
    readonly sources: readonly Source[],
    readonly desired: () => readonly Sysctl[],
  ) {}

  observe(desired: readonly Sysctl[]): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    for (const { name } of desired) {
      const value = this.#refused.has(name) ? undefined : this.#values.get(name);
      if (value !== undefined) found.set(name, value);
    }
    return found;
  }

  difference(desired: readonly Sysctl[], observed: ReadonlyMap<string, string>): SysctlChange[] {
    return desired.flatMap((sysctl) => {
      const { name, value } = sysctl;
      const found = observed.get(name);
      if (found === undefined || found === value) return [];
      return [
        { object: `sysctl ${name.replaceAll("/", ".")}`, wrong: `${found} instead of ${value}`, sysctl },
      ];
    });
  }

  apply(changes: readonly SysctlChange[]): void {
    for (const {
      sysctl: { name, value },
    } of changes) {
      // That of a link that has just gone comes back with the link.
      if (!sysctlSet(name, value) && sysctlGet(name) !== undefined) this.#refused.add(name);
    }
  }

  close(): void {
    this.#values.close();
  }
}
