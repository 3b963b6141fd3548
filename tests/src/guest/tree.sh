# Mounts a guest's own tree at $folder/root: the base below, its own changes above.
# Put before systemd.sh and root.sh, which run in a mount namespace of their own: the mounts go when it goes.
set -eu
folder=$1 base=$2

mount_tree() {
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

