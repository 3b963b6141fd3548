# Makes the tree this namespace's root, and idles as its process 1. Nix needs a real root folder:
# it doesn't work in a chroot.
name=$3

mount_tree
cd "$folder/root"
hostname "$name"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . .
umount --lazy .
cd /
# A shell that waits also reaps what its children leave behind.
exec sh -c 'while :; do sleep 3600 & wait; done'
