# Boots the tree under systemd-nspawn, and again each time the guest asks for a reboot.
cgroup=$3 name=$4

boot_once() {
    # A cgroup in which the boot before has enabled controllers takes no process.
    [ ! -e "$cgroup/machine" ] || find "$cgroup/machine" -depth -type d -exec rmdir {} \;
    mkdir "$cgroup/machine"
    set --
    if [ -e "$folder/cable" ]; then
        read -r interface address <"$folder/cable"
        set -- --private-network --network-veth-extra="$interface:host0"
        connect "$interface" "$address" &
    fi
    # shellcheck disable=SC2016 # for the inner shell to expand
    sh -c 'echo $$ >"$1/machine/cgroup.procs"; shift; exec "$@"' sh "$cgroup" \
        systemd-nspawn --quiet --directory="$folder/root" --machine="$name" --boot \
        --register=no --keep-unit --console=pipe --link-journal=no --resolv-conf=off --timezone=off "$@"
}

# Brings this machine's end of the guest's cable up, which systemd-nspawn makes anew at each boot.
connect() {
    until ip address add "$2" dev "$1" 2>/dev/null; do sleep 0.02; done
    ip link set "$1" up
}

mkdir -p "$cgroup/keeper" "$cgroup/visitors"
echo $$ >"$cgroup/keeper/cgroup.procs"
mount_tree
# 133 is how systemd-nspawn says that the guest wants to be booted again.
status=133
while [ "$status" -eq 133 ]; do
    status=0
    boot_once || status=$?
done
exit "$status"
