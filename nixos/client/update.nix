# What an update of this machine may do, and what must work after it.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;

  cfg = config.services.bento-client;

  # The client's own: only what differs from them is written into client.toml.
  defaults = {
    operation = "switch";
    guard = true;
    rollback.after = "5m";
    confirm.grace = "1m";
    health.timeout = "1m";
    health.checks = [ ];
    disk.store_free = "1GiB";
    disk.collect_garbage = true;
    disk.keep_systems = 5;
    reboot.kexec = true;
    self_update.every = null;
    restart_units = { };
  };
  differing =
    standard: chosen:
    lib.filterAttrs (name: value: value != { } && value != standard.${name} or null) (
      lib.mapAttrs (
        name: value: if lib.isAttrs value then differing (standard.${name} or { }) value else value
      ) chosen
    );

  time =
    default: description:
    mkOption {
      type = types.nonEmptyStr;
      inherit default description;
    };

  check = types.submodule {
    options = {
      command = mkOption {
        type = types.nonEmptyListOf types.str;
        example = [
          "/run/current-system/sw/bin/curl"
          "--fail"
          "--silent"
          "--show-error"
          "http://localhost/health"
        ];
        description = ''
          The program and its arguments; no shell reads them. Exit code 0 is a success. Without a
          full path only little is found: Nix, git, ssh, systemd's programs, bash and what a unit of
          NixOS always has.
        '';
      };
      required = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether a system that fails this check is rolled back. Set it to `false` for what should
          work but isn't worth another system: a failure is then only reported.
        '';
      };
      timeout = mkOption {
        type = types.nullOr types.nonEmptyStr;
        default = null;
        example = "10s";
        description = ''
          After which time the check has failed. `null`: {option}`services.bento-client.health.timeout`.
        '';
      };
    };
  };

  secret = types.submodule {
    options.restartUnits = mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      example = [ "wireguard-wg0.service" ];
      description = "The units that read this secret only when they start: they are restarted when it changes.";
    };
  };
in
{
  options.services.bento-client = {
    operation = mkOption {
      type = types.enum [
        "switch"
        "boot"
      ];
      default = defaults.operation;
      description = ''
        When a new system takes effect. `switch`: at once. `boot`: at the next boot, for machines
        on which nothing may be restarted while somebody works, or that are rebooted often anyway.
      '';
    };

    guard = mkOption {
      type = types.bool;
      default = defaults.guard;
      description = ''
        Whether a system is refused that has no timer for the client, or no settings for this
        machine, and so could never be updated again. Set it to `false` before this machine leaves
        the fleet by way of a last update.
      '';
    };

    rollback.after = time defaults.rollback.after ''
      When nothing has confirmed a new system by then, counted from just before the switch, the old
      one comes back. Raise it where switching, the health checks and
      {option}`services.bento-client.confirm.grace` take longer together. Time asleep doesn't count.
    '';

    confirm.grace = time defaults.confirm.grace ''
      How long the appliance, if it could be reached before the switch, is tried again after it,
      before the old system comes back. Raise it where the network takes long to come up.
    '';

    health = {
      timeout = time defaults.health.timeout ''
        How long a health check may take that has no limit of its own, those in
        `/etc/bento/health.d` included.
      '';
      checks = mkOption {
        type = types.attrsOf check;
        default = { };
        example = {
          website.command = [
            "/run/current-system/sw/bin/curl"
            "--fail"
            "--silent"
            "--show-error"
            "http://localhost"
          ];
        };
        description = ''
          What must work on a new system before it is kept, in the order of the names. For what
          this machine is there for, and for the way by which you would reach it if all else failed.
        '';
      };
    };

    secrets = mkOption {
      type = types.attrsOf secret;
      default = { };
      example = {
        "wg0.key".restartUnits = [ "wireguard-wg0.service" ];
      };
      description = ''
        What to do when a secret changes, by its path below `/var/lib/bento/secrets`. A secret for
        which there is nothing to do needs no entry.
      '';
    };

    disk = {
      storeFree = mkOption {
        type = types.strMatching "[0-9]+ *(B|KiB|MiB|GiB|TiB)";
        default = defaults.disk.store_free;
        example = "5GiB";
        description = ''
          With less free space than this in the Nix store, old systems and garbage go before a
          build. Raise it where builds need more; `0B` lets nothing go.
        '';
      };
      collectGarbage = mkOption {
        type = types.bool;
        default = defaults.disk.collect_garbage;
        description = ''
          Whether Nix' garbage may be collected for it, besides removing old systems from the
          profile. Set it to `false` where others keep things in the store that nothing refers to.
        '';
      };
      keepSystems = mkOption {
        type = types.ints.between 2 10000;
        default = defaults.disk.keep_systems;
        description = ''
          How many of the newest systems always stay in the profile, and so in the boot menu.
          Lower it where `/boot` is small.
        '';
      };
    };

    selfUpdate.every = mkOption {
      type = types.nullOr types.nonEmptyStr;
      default = "1d";
      example = "1w";
      description = ''
        Where the fleet wants this machine to update its lock file or its channels by itself: the
        least time between two such updates. `null`: at each {option}`services.bento-client.interval`.
      '';
    };

    reboot.kexec = mkOption {
      type = types.bool;
      default = defaults.reboot.kexec;
      description = ''
        Whether a reboot starts the new kernel from the old one, without the firmware, where the
        system has `prepare-kexec.service`, as NixOS has unless it was switched off. Set it to `false`
        where hardware only works after a full reset.
      '';
    };
  };

  config.services.bento-client.settings = lib.mkIf cfg.enable (
    differing defaults {
      inherit (cfg)
        operation
        guard
        rollback
        confirm
        reboot
        ;
      health.timeout = cfg.health.timeout;
      health.checks = lib.mapAttrsToList (
        name: check: differing { required = true; } ({ inherit name; } // check)
      ) cfg.health.checks;
      disk = {
        store_free = cfg.disk.storeFree;
        collect_garbage = cfg.disk.collectGarbage;
        keep_systems = cfg.disk.keepSystems;
      };
      self_update.every = cfg.selfUpdate.every;
      restart_units = lib.mapAttrs (_: one: one.restartUnits) (
        lib.filterAttrs (_: one: one.restartUnits != [ ]) cfg.secrets
      );
    }
  );
}
