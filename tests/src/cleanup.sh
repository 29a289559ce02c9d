# Ends everything of one run and takes it away: processes, cgroups, network namespaces, files.
# Arguments: the run's name, its cgroup, its folder.
# Started beside the run, it waits until standard input ends, which happens however the run's process does.
trap '' HUP INT TERM
run=$1 cgroup=$2 folder=$3
cat > /dev/null
# The next run takes away what is left of this one, and may be at it at the same time.
exec 2> /dev/null

tries=0
while [ -d "$cgroup" ] && [ $tries -lt 200 ]; do
    echo 1 > "$cgroup/cgroup.kill"
    grep -q 'populated 0' "$cgroup/cgroup.events" && find "$cgroup" -depth -type d -exec rmdir {} \;
    [ -d "$cgroup" ] && sleep 0.05
    tries=$((tries + 1))
done
for namespace in /run/netns/"$run"-*; do
    [ -e "$namespace" ] && ip netns delete "${namespace##*/}"
done
rm -rf "$folder"
