# Ends everything of one run and takes it away: processes, cgroups, network namespaces, files.
# Arguments: the run's name, its cgroup, its folder (empty: keep it).
# Started beside the run, it waits until standard input ends, which happens however the run's process does.
trap '' HUP INT TERM
run=$1 cgroup=$2 folder=$3
cat > /dev/null

if [ -d "$cgroup" ]; then
    tries=0
    while [ $tries -lt 200 ]; do
        echo 1 > "$cgroup/cgroup.kill"
        grep -q 'populated 0' "$cgroup/cgroup.events" && break
        tries=$((tries + 1))
        sleep 0.05
    done
    find "$cgroup" -depth -type d -exec rmdir {} \;
fi
for namespace in /run/netns/"$run"-*; do
    [ -e "$namespace" ] && ip netns delete "${namespace##*/}"
done
if [ -n "$folder" ]; then
    rm -rf "$folder"
fi
