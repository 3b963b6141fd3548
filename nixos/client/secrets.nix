# At a boot, switches to the secrets of the booted system, before users are created and before anything reads them.
{ config, lib, ... }:
let
  cfg = config.services.bento-client;
  settle = "${cfg.package}/bin/bento-client settle-secrets";

  # If systemd creates the users, that is after all activation scripts, and the script for users must stay empty.
  usersByScript = !(config.systemd.sysusers.enable or false || config.services.userborn.enable or false);

  # Users with a password from a secret, which NixOS reads before it mounts filesystems that a boot doesn't need.
  isSecret = user: lib.hasPrefix "/var/lib/bento/" (toString (user.hashedPasswordFile or ""));
  readers = builtins.attrNames (lib.filterAttrs (_: isSecret) (config.users.users or { }));
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = readers == [ ] || (config.fileSystems."/var/lib/bento".neededForBoot or true);
        message = ''
          The password of ${lib.concatStringsSep ", " readers} is one of bento's secrets, which NixOS reads before
          it mounts /var/lib/bento: set fileSystems."/var/lib/bento".neededForBoot to true.'';
      }
    ];

    # NixOS creates users in activation scripts, before systemd starts; a user without a password at that time stays
    # locked. Only at a boot: a switch has its secrets already.
    system.activationScripts = {
      bentoSecrets = {
        deps = [ "specialfs" ];
        text = ''
          if [ ! -e /run/current-system ]; then
            timeout --kill-after=1 10 ${settle} --system "$systemConfig"
          fi
        '';
      };
    }
    // lib.optionalAttrs usersByScript { users.deps = [ "bentoSecrets" ]; };

    # The same, for a /var/lib/bento that is mounted later.
    systemd.services.bento-secrets = {
      description = "Switch to the secrets of the booted system";
      # Before sysinit.target, so that it is before every unit with default dependencies; and before
      # what sets up the network, which has none.
      wantedBy = [ "sysinit.target" ];
      before = [
        "sysinit.target"
        "network-pre.target"
        "shutdown.target"
      ];
      wants = [ "network-pre.target" ];
      after = [ "local-fs.target" ];
      conflicts = [ "shutdown.target" ];
      restartIfChanged = false;
      stopIfChanged = false;
      unitConfig = {
        X-StopOnRemoval = false;
        DefaultDependencies = false;
        RequiresMountsFor = "/var/lib/bento";
        # Only at boot. A switch that brings this unit starts it too, with an update of its own under
        # way; NixOS makes this file at the first switch after a boot.
        ConditionPathExists = [
          "/var/lib/bento"
          "!/run/nixos/switch-to-configuration.lock"
        ];
      };
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = settle;
        # The boot goes on without it; it must not wait for long either.
        TimeoutStartSec = 10;
        TimeoutStartFailureMode = "kill";
      };
    };
  };
}
