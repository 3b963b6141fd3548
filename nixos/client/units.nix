# The units of the client: bento-update and bento-reboot-if-needed, with their timers.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.bento-client;

  # For a unit that runs during a switch that may change or remove it. A stop halfway would leave a
  # machine that is neither old nor new, without a report.
  survivesSwitch = {
    restartIfChanged = false;
    stopIfChanged = false;
    unitConfig = {
      X-StopOnRemoval = false;
      # The client creates this folder itself: StateDirectory= fails for a symlink to another disk.
      RequiresMountsFor = "/var/lib/bento";
    };
  };

  # The programs of the client: Nix and git for builds, ssh for a proxy command, systemd for switches,
  # inhibitors and reboots; and the shells of health checks, because a script for NixOS begins with
  # `#!/usr/bin/env bash`.
  path = [
    config.nix.package
    config.programs.ssh.package
    config.systemd.package
    pkgs.bash
    pkgs.coreutils
    pkgs.gitMinimal
  ];

  # As for NixOS' own nixos-upgrade.service.
  environment =
    config.nix.envVars
    // {
      HOME = "/root";
    }
    # Unset if NixOS doesn't manage Nix, which an assertion refuses.
    // lib.optionalAttrs (config.environment.sessionVariables ? NIX_PATH) {
      inherit (config.environment.sessionVariables) NIX_PATH;
    }
    // config.networking.proxy.envVars;

  # Time zones are unknown in a build, so they can't be checked.
  withoutZone =
    calendar:
    let
      zoned = builtins.match "(.*[^ ]) +[A-Z][A-Za-z0-9_+/-]*" calendar;
    in
    if zoned == null then calendar else builtins.head zoned;

  # No TimeoutStartSec: for a oneshot unit that is infinity, and a build may take a day.
  run = command: {
    Type = "oneshot";
    ExecStart = "${cfg.package}/bin/bento-client ${command}";
  };
in
{
  config = lib.mkIf cfg.enable {
    # systemd ignores an invalid time. Without OnCalendar= the machine would be updated only after a boot,
    # and no check of the new system would notice.
    system.checks = [
      (pkgs.runCommand "bento-client-times" { nativeBuildInputs = [ config.systemd.package ]; } ''
        if ! systemd-analyze calendar ${lib.escapeShellArg (withoutZone cfg.interval)}; then
          echo "error: services.bento-client.interval isn't a calendar expression of systemd.time(7)" >&2
          exit 1
        fi
        if ! systemd-analyze timespan ${lib.escapeShellArg cfg.jitter}; then
          echo "error: services.bento-client.jitter isn't a time span of systemd.time(7)" >&2
          exit 1
        fi
        touch "$out"
      '')
    ];

    systemd.services.bento-update = survivesSwitch // {
      description = "Update this machine from its bento appliance";
      after = [ "network-online.target" ];
      wants = [ "network-online.target" ];
      inherit environment path;
      # With a short interval, a service that reached the limit of starts would never start again.
      unitConfig = survivesSwitch.unitConfig // {
        StartLimitIntervalSec = 0;
      };
      serviceConfig = run "update" // {
        # Without a key there is nothing to do. Unlike ConditionPathExists=, this prints a message.
        ExecCondition = "${cfg.package}/bin/bento-client has-key";
        SuccessExitStatus = [
          # No usable server: this is usually transient, and the appliance shows silent machines.
          4
          # Another run holds the lock, and does the same work.
          5
        ];
      };
    };

    systemd.timers.bento-update = {
      description = "Poll for a new generation of this machine";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.interval;
        Persistent = true;
        RandomizedDelaySec = cfg.jitter;
        FixedRandomDelay = true;
        # systemd's default of a minute would add to the jitter.
        AccuracySec = "1s";
      };
    };

    # A separate timer, because bento-update's may have a long jitter and is persistent: systemd drops the OnBootSec= of a
    # persistent timer if the boot took longer. It counts from the start of the timer, so that a slow machine has started
    # everything when it is proven.
    systemd.timers.bento-update-boot = {
      description = "Prove the booted system, and report to the appliance";
      wantedBy = [ "timers.target" ];
      # Only at a boot: NixOS creates this file at the first switch after it.
      unitConfig.ConditionPathExists = "!/run/nixos/switch-to-configuration.lock";
      timerConfig = {
        Unit = "bento-update.service";
        OnActiveSec = "1min";
        # After a power cut, a whole fleet boots at once.
        RandomizedDelaySec = "30s";
        FixedRandomDelay = true;
        AccuracySec = "1s";
      };
    };

    systemd.services.bento-reboot-if-needed = survivesSwitch // {
      description = "Reboot this machine if an update needs it and the fleet allows it now";
      inherit environment path;
      # Without a key this machine was never updated.
      unitConfig = survivesSwitch.unitConfig // {
        ConditionPathExists = cfg.identityFile;
      };
      serviceConfig = run "reboot-if-needed" // {
        # An update is running, and reboots by itself if needed.
        SuccessExitStatus = 5;
      };
    };

    # A separate timer, because bento-update's may be too rare for a reboot window, and has a jitter.
    systemd.timers.bento-reboot-if-needed = {
      description = "Check whether this machine should reboot now";
      wantedBy = [ "timers.target" ];
      timerConfig.OnCalendar = "*:0/10";
    };
  };
}
