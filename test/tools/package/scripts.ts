// What package managers run before and after they change files: sh(1), as deb-postinst(5) and rpm's scriptlets have it.

/** After files were installed, the first time or over an earlier version. */
const RELOAD = `if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi`;

/**
 * After an upgrade. The kernel forwards while the router restarts. The CNI plugin is another file, which runtimes run; a router
 * that 'weave launch' started has options that nobody else knows.
 */
const UPGRADED = `if [ -e /opt/cni/bin/weave-net ]; then
  weave setup || echo "weave: the CNI plugin was not upgraded: run 'weave setup'" >&2
fi
if [ -d /run/systemd/system ] && systemctl --quiet is-active weave.service; then
  systemctl restart weave.service || echo "weave: see 'systemctl status weave'" >&2
elif [ -S /run/weave/weave.sock ]; then
  echo "weave: the running router is the earlier version: run 'weave stop', and 'weave launch' with its options; traffic goes on"
fi`;

/**
 * Before the files are removed for good: the host leaves the network, and its containers lose it; not where another executable is the
 * router, such as that of a pod.
 */
const REMOVED = `if [ -d /run/systemd/system ]; then
  systemctl --quiet disable --now weave.service || true
fi
router=$(cat /run/weave/weave.pid 2>/dev/null) && router=$(readlink "/proc/$router/exe" 2>/dev/null) || router=
case "$router" in
"" | /usr/bin/weave*)
  weave reset --force || echo "weave: not everything was removed; 'ip link' and /var/lib/weave show what is left" >&2
  ;;
*)
  echo "weave: $router is the router of this host: its network stays"
  ;;
esac`;

/** After the settings were removed, too; the folders are in use where a router runs. */
const PURGED = `[ -S /run/weave/weave.sock ] || rm -rf /var/lib/weave /run/weave`;

const script = (...lines: string[]) => `#!/bin/sh\nset -e\n${lines.join("\n")}\nexit 0\n`;
const when = (test: string, text: string) => `if ${test}; then\n${text}\nfi`;

/** Scripts of a .deb by their names in its control archive. */
export const DEB_SCRIPTS: Readonly<Record<string, string>> = {
  postinst: script(
    when('[ "$1" = configure ]', RELOAD),
    when('[ "$1" = configure ] && [ -n "$2" ]', UPGRADED),
  ),
  prerm: script(when('[ "$1" = remove ]', REMOVED)),
  postrm: script(when('[ "$1" = purge ]', PURGED), when('[ "$1" = remove ] || [ "$1" = purge ]', RELOAD)),
};

/** Scriptlets of an .rpm by their sections in its spec; $1 is the number of versions that will be installed. */
export const RPM_SCRIPTS: Readonly<Record<string, string>> = {
  post: [RELOAD, when('[ "$1" -ge 2 ]', UPGRADED)].join("\n"),
  preun: when('[ "$1" -eq 0 ]', REMOVED),
  postun: when('[ "$1" -eq 0 ]', RELOAD),
};
