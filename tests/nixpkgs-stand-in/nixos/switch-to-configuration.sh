#!/bin/sh
# NixOS' switch-to-configuration, as far as a machine that isn't NixOS can carry it out.
# Exit codes as there: 1 refused or no boot loader, 2 activation scripts failed, 4 units failed, 11 another
# run, 100 another init.
set -u
system=$(dirname "$(dirname "$(readlink -f "$0")")")
units=$system/etc/systemd/system
action=${1-}
played=$(cat "$system/exit-code")

case $action in
    check | switch | test | boot) ;;
    dry-activate)
        echo "would activate the configuration $system"
        exit 0
        ;;
    *)
        echo "Usage: $0 check|switch|boot|test|dry-activate" >&2
        exit 1
        ;;
esac

mkdir -p /run/nixos
exec 9> /run/nixos/switch-to-configuration.lock
flock -n 9 || { echo "Could not acquire lock" >&2; exit 11; }

# First of all, and nobody needs to have activated anything for it.
if [ "${NIXOS_NO_CHECK-}" != 1 ] && ! "$system/pre-switch-checks" "$system" "$action"; then
    echo "Pre-switch checks failed" >&2
    exit 1
fi
[ "$action" != check ] || exit 0

play() {
    echo "the configuration asks for exit code $played (standIn.exitCode)" >&2
    exit "$played"
}
case $played in 0 | 4 | 100) ;; *) play ;; esac

if [ "$action" != test ]; then
    "$system/install-boot-loader" || { echo "Failed to install bootloader" >&2; exit 1; }
    mkdir -p /boot
    ln -sfn "$system" /boot/default-system.new && mv -T /boot/default-system.new /boot/default-system
    sync -f /boot/default-system
    [ "$action" = switch ] || exit 0
fi
[ "$played" != 100 ] || play

if [ -e "$system/needs-bus" ] && ! busctl --timeout=5 list > /dev/null 2>&1; then
    echo "Failed to open dbus connection" >&2
    exit 1
fi

with_systemd() { [ -d /run/systemd/system ]; }
runs() { case $(systemctl show --property=ActiveState --value "$1") in active | activating) ;; *) false ;; esac; }
has() { grep -qsx "$1" "$2"; } # has LINE FILE

# Compared before anything changes; a unit is stopped with its old file, and started with its new one.
restart=
if with_systemd && [ -d /run/current-system/etc/systemd/system ]; then
    for old in /run/current-system/etc/systemd/system/*.*; do
        unit=${old##*/}
        if [ -d "$old" ] || ! runs "$unit"; then
            continue
        elif [ ! -e "$units/$unit" ]; then
            has X-StopOnRemoval=false "$old" || { echo "stopping $unit"; systemctl stop "$unit"; }
        elif ! cmp -s "$old" "$units/$unit" && ! has X-RestartIfChanged=false "$units/$unit"; then
            restart="$restart $unit"
        fi
    done
fi

status=0
echo "activating the configuration..."
"$system/activate" || status=2

if with_systemd; then
    systemctl daemon-reload
    # What had failed before counts only if it fails again.
    systemctl reset-failed
    for unit in $restart; do
        echo "restarting $unit"
        systemctl restart "$unit"
    done
    # Starting a target that is active starts what it has come to want.
    for wants in "$units"/*.wants; do
        target=${wants##*/}
        systemctl start "${target%.wants}"
    done
    failed=$(systemctl list-units --state=failed --plain --no-legend | cut -d ' ' -f 1)
    [ -z "$failed" ] || { echo "warning: the following units failed:" $failed >&2; status=4; }
fi

[ "$played" = 0 ] || { echo "warning: the configuration asks for exit code $played (standIn.exitCode)" >&2; status=$played; }
exit "$status"
