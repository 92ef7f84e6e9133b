// The network configurations that we write: https://www.cni.dev/docs/spec/#section-1-network-configuration-format

/** A list of plugins; or the plugin alone, for runtimes without lists. */
export const LIST = "10-weave.conflist";
export const SINGLE = "10-weave.conf";

/** Versions of a list: the one for runtimes that know no choice, which they have to know. */
export const LIST_VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type ListVersion = (typeof LIST_VERSIONS)[number];
const LIST_VERSION: ListVersion = "1.0.0";
/** The version that the original writes. */
const ORIGINAL_VERSION: ListVersion = "0.3.0";

/** Return the list: runtimes of CNI 1.1 choose among all versions, others take the one that is named. */
export function conflist(hairpin: boolean, version = LIST_VERSION): string {
  return `{
    "cniVersion": "${version}",
    "cniVersions": [${LIST_VERSIONS.map((each) => `"${each}"`).join(", ")}],
    "name": "weave",
    "plugins": [
        {
            "type": "weave-net",
            "hairpinMode": ${hairpin},
            "capabilities": {"portMappings": true, "ips": true, "mac": true}
        }
    ]
}
`;
}

/** Return the list as the original writes it, and earlier versions of ours did: portmap delivers host ports. */
export function originalConflist(hairpin: boolean): string {
  return `{
    "cniVersion": "${ORIGINAL_VERSION}",
    "name": "weave",
    "plugins": [
        {
            "name": "weave",
            "type": "weave-net",
            "hairpinMode": ${hairpin}
        },
        {
            "type": "portmap",
            "capabilities": {"portMappings": true},
            "snat": true
        }
    ]
}
`;
}

/** Return the configuration for runtimes of CNI 0.2 and before, such as Mesos. */
export function conf(hairpin: boolean): string {
  return `{
    "cniVersion": "0.2.0",
    "name": "weave",
    "type": "weave-net",
    "hairpinMode": ${hairpin}
}
`;
}

const GENERATED: ReadonlySet<string> = new Set(
  [true, false].flatMap((hairpin) => [
    ...LIST_VERSIONS.map((version) => conflist(hairpin, version)),
    originalConflist(hairpin),
    conf(hairpin),
  ]),
);

/** Whether a configuration is as we, or the original, write it: nobody has changed it. */
export const isGenerated = (text: string): boolean => GENERATED.has(text);

/**
 * Return the version to write in place of a list: that of the list of the original, whose runtimes may know no later one, and
 * which its containers were attached by.
 */
export function versionAfter(present: string): ListVersion {
  const kept = [true, false].some(
    (hairpin) => present === originalConflist(hairpin) || present === conflist(hairpin, ORIGINAL_VERSION),
  );
  return kept ? ORIGINAL_VERSION : LIST_VERSION;
}
