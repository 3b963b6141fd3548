# The options for updates of this machine and for their checks.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;

  cfg = config.services.bento-client;

  # The client's defaults: only other values are written to client.toml.
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
          The program and its arguments, without a shell. Exit code 0 is a success. Only a few
          programs need no full path: Nix, git, ssh, systemd's programs, bash, and those in the PATH
          of every unit of NixOS.
        '';
      };
      required = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether a failure of this check rolls the system back. With `false` a failure is only
          reported.
        '';
      };
      timeout = mkOption {
        type = types.nullOr types.nonEmptyStr;
        default = null;
        example = "10s";
        description = ''
          The time limit of the check. `null`: {option}`services.bento-client.health.timeout`.
        '';
      };
    };
  };

  secret = types.submodule {
    options.restartUnits = mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      example = [ "wireguard-wg0.service" ];
      description = "The units to restart when this secret changes, because they read it only at their start.";
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
        When a new system takes effect. `switch`: at once. `boot`: at the next boot, for a machine
        that must not restart services while it is in use, or that is rebooted often anyway.
      '';
    };

    guard = mkOption {
      type = types.bool;
      default = defaults.guard;
      description = ''
        Whether to refuse a system without the client's timer or without settings for this machine,
        because it could never be updated again. Set it to `false` before an update that takes this
        machine out of the fleet.
      '';
    };

    rollback.after = time defaults.rollback.after ''
      The time limit for the confirmation of a new system, from just before the switch; then the old
      system comes back. Raise it if the switch, the health checks and
      {option}`services.bento-client.confirm.grace` together need more. Time in suspend doesn't count.
    '';

    confirm.grace = time defaults.confirm.grace ''
      How long failed checks of a new system are retried before the old system comes back: Nix, the
      health checks, and the connection to the appliance if it was reachable before the switch. Raise
      it if the network needs long to come up.
    '';

    health = {
      timeout = time defaults.health.timeout ''
        The time limit of a health check without its own, also of those in `/etc/bento/health.d`.
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
          The checks that a new system must pass before it is kept, in the order of their names.
          Check the machine's main services, and your last way to reach the machine.
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
        Actions after the change of a secret, by its path below `/var/lib/bento/secrets`. A secret
        without an action needs no entry.
      '';
    };

    disk = {
      storeFree = mkOption {
        type = types.strMatching "[0-9]+ *(B|KiB|MiB|GiB|TiB)";
        default = defaults.disk.store_free;
        example = "5GiB";
        description = ''
          With less free space than this in the Nix store, the client removes old systems and
          garbage before a build. Raise it if builds need more; `0B` disables this.
        '';
      };
      collectGarbage = mkOption {
        type = types.bool;
        default = defaults.disk.collect_garbage;
        description = ''
          Whether the client may collect Nix' garbage for this, besides removing old systems from
          the profile. Set it to `false` if the store has paths that must stay without a GC root.
        '';
      };
      keepSystems = mkOption {
        type = types.ints.between 2 10000;
        default = defaults.disk.keep_systems;
        description = ''
          The number of newest systems that always stay in the profile, and so in the boot menu.
          Lower it if `/boot` is small.
        '';
      };
    };

    selfUpdate.every = mkOption {
      type = types.nullOr types.nonEmptyStr;
      default = "1d";
      example = "1w";
      description = ''
        The least time between two self-updates of the lock file or the channels, if the fleet has
        `self_update` for this machine. `null`: at each {option}`services.bento-client.interval`.
      '';
    };

    reboot.kexec = mkOption {
      type = types.bool;
      default = defaults.reboot.kexec;
      description = ''
        Whether a reboot starts the new kernel by kexec, without the firmware, if the system has
        `prepare-kexec.service` (NixOS has it by default). Set it to `false` if the hardware works
        only after a full reset.
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
