#!/bin/sh
# Install weave from this folder, or upgrade it: ./install.sh [PREFIX]  (default: /usr/local)
set -eu
prefix=${1:-/usr/local}
case "$prefix" in
/*) ;;
*)
  echo "usage: ./install.sh [PREFIX]: an absolute path (default: /usr/local)" >&2
  exit 2
  ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
"$here/weave" --version >/dev/null || {
  echo "error: $here/weave does not run on this machine: take the archive for its processor and libc" >&2
  exit 1
}
mkdir -p "$prefix/bin"
# A running executable cannot be written, but replaced.
cp "$here/weave" "$prefix/bin/.weave.new"
chmod 755 "$prefix/bin/.weave.new"
mv -f "$prefix/bin/.weave.new" "$prefix/bin/weave"
for name in weave-net weave-router weave-npc; do
  ln -sf weave "$prefix/bin/$name"
done
mkdir -p "$prefix/share"
cp -R "$here/share/." "$prefix/share/"
echo "installed $("$prefix/bin/weave" --version) in $prefix/bin"
if [ -S /run/weave/weave.sock ]; then
  echo "the running router is the earlier version: restart it (traffic goes on): 'systemctl restart weave', or 'weave stop' and 'weave launch' with its options"
fi
