# Ends a guest at once, as if its plug were pulled; with "remove", nothing is left of it.
folder=$1 cgroup=$2 then=$3

if [ -e "$cgroup/cgroup.kill" ]; then
    echo 1 >"$cgroup/cgroup.kill"
    until grep -q '^populated 0' "$cgroup/cgroup.events"; do sleep 0.02; done
fi
if [ -e "$folder/keeper" ]; then
    read -r keeper start <"$folder/keeper"
    stat=$(cat "/proc/$keeper/stat" 2>/dev/null)
    fields=${stat##*) }
    # Another process may have its number by now.
    if [ "$(echo "$fields" | cut -d ' ' -f 20)" = "$start" ]; then
        # Its only child is the guest's first process; that one's end is the end of all others, and then the keeper's.
        first=$(cat "/proc/$keeper/task/$keeper/children" 2>/dev/null)
        # shellcheck disable=SC2086 # one number, or none yet
        kill -KILL ${first:-$keeper} 2>/dev/null
        # A zombie waits for nothing but its parent.
        while grep -q '^State:.[^ZX]' "/proc/$keeper/status" 2>/dev/null; do sleep 0.02; done
    fi
    rm -f "$folder/keeper"
fi
[ "$then" = remove ] || exit 0
[ ! -e "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} \;
# The last process of a namespace may still be writing.
tries=0
until rm -rf "$folder" || [ "$tries" -ge 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
