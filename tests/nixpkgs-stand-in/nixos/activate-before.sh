#!/bin/sh
# Makes this system the running one: its activation scripts, its files in /etc, and
# /run/current-system, in the order of NixOS. As `init` it does so at boot.
set -u
system=$(dirname "$(readlink -f "$0")")
status=0
# What activation scripts are given.
systemConfig=$system
PATH=/usr/sbin:/usr/bin

