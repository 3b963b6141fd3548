# Mounts a guest's own tree at $folder/root: the base below, its own changes above.
# Put before systemd.sh and root.sh, which run in a mount namespace of their own: the mounts go when it goes.
set -eu
folder=$1 base=$2

mount_tree() {
    mount_root
    [ ! -e "$folder/disk" ] || mount_disk
}

mount_root() {
    if [ ! -e "$folder/copied" ] &&
        mount -t overlay overlay -o "lowerdir=$base,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"; then
        return
    fi
    # Not every file system can be the upper one of an overlay; a copy does the same, in more time.
    if [ ! -e "$folder/copied" ]; then
        cp -a --reflink=auto "$base/." "$folder/root"
        cp -a "$folder/upper/." "$folder/root"
        touch "$folder/copied"
    fi
    mount --bind "$folder/root" "$folder/root"
}

# The guest's small disk: it has at first what the tree has there.
mount_disk() {
    at=$folder/root$(cat "$folder/disk.at")
    # The kernel lets go of the disk a moment after the last process of the boot before.
    while losetup --associated "$folder/disk" | grep -q .; do sleep 0.02; done
    mkdir -p "$at" "$folder/disk.root"
    mount -o loop "$folder/disk" "$folder/disk.root"
    if [ ! -e "$folder/disk.filled" ]; then
        cp -a "$at/." "$folder/disk.root"
        touch "$folder/disk.filled"
    fi
    mount --bind "$folder/disk.root" "$at"
    umount "$folder/disk.root"
}
