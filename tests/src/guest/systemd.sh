# Boots the tree under systemd-nspawn, and again each time the guest asks for a reboot.
cgroup=$3 name=$4

boot_once() {
    # A cgroup in which the boot before has enabled controllers takes no process.
    [ ! -e "$cgroup/machine" ] || find "$cgroup/machine" -depth -type d -exec rmdir {} \;
    mkdir "$cgroup/machine"
    # shellcheck disable=SC2016 # for the inner shell to expand
    sh -c 'echo $$ >"$1/machine/cgroup.procs"; shift; exec "$@"' sh "$cgroup" \
        systemd-nspawn --quiet --directory="$folder/root" --machine="$name" --boot \
        --register=no --keep-unit --console=pipe --link-journal=no --resolv-conf=off --timezone=off
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
