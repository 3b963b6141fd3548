# At a boot, the secrets of the system that was booted: before its users are made, and before anything reads them.
{ config, lib, ... }:
let
  cfg = config.services.bento-client;
  settle = "${cfg.package}/bin/bento-client settle-secrets";

  # Where systemd makes the users, that is after all activation scripts, and this one must stay empty.
  usersByScript = !(config.systemd.sysusers.enable or false || config.services.userborn.enable or false);

  # Users whose password NixOS reads from a secret, which it does before it mounts what isn't needed for a boot.
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

    # NixOS makes users by activation scripts, before systemd starts; a user who is made without a password stays
    # locked. A switch brings its secrets itself, and nothing runs yet only at a boot.
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
