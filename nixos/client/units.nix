# When the client runs: bento-update, and bento-reboot-if-needed.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.bento-client;

  # A unit that carries out, or waits for, the switch that may change or remove it. Stopped halfway, it
  # would leave a machine that is neither old nor new, and no report.
  survivesSwitch = {
    restartIfChanged = false;
    stopIfChanged = false;
    unitConfig = {
      X-StopOnRemoval = false;
      # The client makes this folder itself: StateDirectory= fails where it is a symlink, by which it lies on another disk.
      RequiresMountsFor = "/var/lib/bento";
    };
  };

  # What the client calls: Nix and git to build, ssh for a proxy command, systemd to switch, to be
  # undisturbed meanwhile and to reboot; and the shells that health checks are written for, because
  # `#!/usr/bin/env bash` is how a script begins that should run on NixOS.
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
    # Where NixOS doesn't manage Nix there is none, and an assertion says what is wrong.
    // lib.optionalAttrs (config.environment.sessionVariables ? NIX_PATH) {
      inherit (config.environment.sessionVariables) NIX_PATH;
    }
    // config.networking.proxy.envVars;

  # A time zone isn't known where systems are built, and so can't be checked there.
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
    # systemd ignores a time that it can't read. Without OnCalendar= the machine would be updated after
    # a boot and never again, and nothing that a new system must prove would show it.
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
      # However short the interval is: a timer whose service was started too often would never start it again.
      unitConfig = survivesSwitch.unitConfig // {
        StartLimitIntervalSec = 0;
      };
      serviceConfig = run "update" // {
        # Before there is a key, there is nothing to do; it says so, which a ConditionPathExists= wouldn't.
        ExecCondition = "${cfg.package}/bin/bento-client has-key";
        SuccessExitStatus = [
          # No server could be used: that passes, and the appliance tells who is silent for too long.
          4
          # Another run holds the lock, and does what this one would have done.
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
        # systemd's own is a minute, by which a machine would be late beyond its jitter.
        AccuracySec = "1s";
      };
    };

    # Apart from bento-update's, whose jitter may be long, and which is persistent: systemd drops an OnBootSec= of such a
    # timer where the boot took longer than that. Counted from when the timer starts, so that what a slow machine
    # starts last is up when it must prove itself.
    systemd.timers.bento-update-boot = {
      description = "Prove the booted system, and report to the appliance";
      wantedBy = [ "timers.target" ];
      # Only at a boot: NixOS makes this file at the first switch after one.
      unitConfig.ConditionPathExists = "!/run/nixos/switch-to-configuration.lock";
      timerConfig = {
        Unit = "bento-update.service";
        OnActiveSec = "1min";
        # A power cut ends for a whole fleet at once.
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
        # An update is going on, and reboots by itself if it should.
        SuccessExitStatus = 5;
      };
    };

    # Apart from bento-update's, which may be too rare for a reboot window, and late by its jitter.
    systemd.timers.bento-reboot-if-needed = {
      description = "Check whether this machine should reboot now";
      wantedBy = [ "timers.target" ];
      timerConfig.OnCalendar = "*:0/10";
    };
  };
}
