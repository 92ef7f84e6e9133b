#!/bin/sh
# usage: world.sh COMMAND ARG...
# Run a file of tests as process 1 of new pid, mount and network namespaces (see world.ts), with /run/netns and $TMPDIR
# in memory: the kernel removes all of it when process 1 ends, however it ends. What the tests did not remove
# themselves is a failure all the same.
mkdir -p /run/netns
# An empty folder that every machine has; tests put others over /var, /run and /opt.
for path in /mnt /media /srv; do
  case $PWD/ in $path/*) continue ;; esac
  [ -d $path ] && break
done
export TMPDIR=$path
# podman keeps its locks in /dev/shm.
for path in /run/netns /dev/shm "$TMPDIR"; do mount -t tmpfs tmpfs "$path" || exit 1; done
ip link set lo up

# One line for each thing that is here. Nothing but builtins before the last process is listed.
inventory() {
  for path in /proc/[0-9]*; do
    line=
    # A process that has ended has no command line.
    { IFS= read -r line < "$path/cmdline"; read -r comm < "$path/comm"; } 2> /dev/null
    [ -n "$line" ] && [ "${path#/proc/}" != 1 ] && echo "process ${path#/proc/} ($comm)"
  done
  while read -r _ path _; do
    case $path in /run/netns/*) ;; *) echo "mount $path" ;; esac
  done < /proc/mounts
  while read -r link _; do
    case $link in *:*) echo "link ${link%%:*}" ;; esac
  done < /proc/net/dev
  nft list tables 2> /dev/null
  for path in /run/netns/*; do [ -e "$path" ] && echo "network namespace ${path#/run/netns/}"; done
  for path in "$TMPDIR"/* "$TMPDIR"/.[!.]*; do [ -e "$path" ] && echo "file $path"; done
}
list=/run/netns/.inventory
found=/run/netns/.found
inventory > $list
before=$(cat $list)
rm $list

"$@"
code=$?

# What is here that was not here before.
left() {
  inventory > $list
  while IFS= read -r line; do
    case "
$before
" in *"
$line
"*) ;; *) echo "left behind: $line" ;; esac
  done < $list
}

# What was killed a moment ago may take a moment to end, on a busy machine some seconds.
looks=30
while [ $looks -gt 0 ]; do
  looks=$((looks - 1))
  left > $found
  [ -s $found ] || exit $code
  sleep 0.2
done
cat $found >&2
[ $code = 0 ] && code=1
exit $code
