# Ends everything of one run and takes it away: processes, cgroups, network namespaces, files.
# Arguments: what marks its processes in their environment, the run's name, its cgroup (empty for none), its folder.
# Started beside the run, it waits until standard input ends, which happens however the run's process does.
trap '' HUP INT TERM
mark=$1 run=$2 cgroup=$3 folder=$4
cat > /dev/null
# The next run takes away what is left of this one, and may be at it at the same time.
exec 2> /dev/null

# At once and for good, where there are cgroups.
tries=0
while [ -d "$cgroup" ] && [ $tries -lt 200 ]; do
    echo 1 > "$cgroup/cgroup.kill"
    grep -q 'populated 0' "$cgroup/cgroup.events" && find "$cgroup" -depth -type d -exec rmdir {} \;
    [ -d "$cgroup" ] && sleep 0.05
    tries=$((tries + 1))
done
# Where memory is counted in a hierarchy of its own (version 1), a run may have a limit there.
rmdir /sys/fs/cgroup/memory/"$run"
# One by one, where there are none. (grep's status tells of other users' processes, which it cannot read.)
members() { grep -lszxF "$mark" /proc/[0-9]*/environ; }
tries=0
while found=$(members); [ -n "$found" ] && [ $tries -lt 200 ]; do
    for member in $found; do
        member=${member#/proc/}
        kill -KILL "${member%/environ}"
    done
    sleep 0.05
    tries=$((tries + 1))
done
for namespace in /run/netns/"$run"-*; do
    [ -e "$namespace" ] && ip netns delete "${namespace##*/}"
done
rm -rf "$folder"
