# Users who have a hashedPasswordFile; what else is said of users is ignored.
{ config, lib, ... }:
let
  inherit (lib) escapeShellArg;
  fileOf = user: user.hashedPasswordFile or null;

  # As with NixOS' users.mutableUsers: who is made without a password is locked, and stays so.
  make = name: user: ''
    if ! getent passwd ${escapeShellArg name} > /dev/null; then
        hash='!'
        if [ -e ${escapeShellArg (fileOf user)} ]; then
            hash=$(cat ${escapeShellArg (fileOf user)})
        else
            echo "warning: password file "${escapeShellArg (fileOf user)}" does not exist" >&2
        fi
        useradd --password "$hash" ${escapeShellArg name}
    fi
  '';
in
{
  config.system.activationScripts.specialfs = "";
  config.system.activationScripts.users.text = lib.concatStrings (
    lib.mapAttrsToList make (lib.filterAttrs (_: user: fileOf user != null) (config.users.users or { }))
  );
}
