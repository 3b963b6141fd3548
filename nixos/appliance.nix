# services.bento-appliance: the appliance's container, rootless, with its own user.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) literalExpression mkOption types;

  cfg = config.services.bento-appliance;
  # Without a user session, no systemd could create cgroups.
  podman = "${config.virtualisation.podman.package}/bin/podman --cgroup-manager=cgroupfs";
  home = "/var/lib/bento-appliance";
  runtime = "/run/bento-appliance";
  container = "bento";

  environment = {
    HOME = home;
    XDG_RUNTIME_DIR = runtime;
  };

  # The capabilities to run sshd for other accounts, and to end their sessions.
  capabilities = [
    "SETUID"
    "SETGID"
    "SYS_CHROOT"
    "CHOWN"
    "FOWNER"
    "DAC_OVERRIDE"
    "KILL"
  ];

  # Paths and names that mean the same to a shell, to systemd and to podman.
  plain = types.strMatching "[A-Za-z0-9_./-]+";
  flags = [
    "--name=${container}"
    "--replace"
    "--rm"
    "--detach"
    "--pull=never"
    # All processes stay in this unit's cgroup, and `podman exec` works from any other.
    "--cgroups=disabled"
    "--sdnotify=container"
    "--log-driver=passthrough"
    "--read-only"
    "--cap-drop=all"
  ]
  ++ map (name: "--cap-add=${name}") capabilities
  ++ [
    "--security-opt=no-new-privileges"
    "--publish=${toString cfg.port}:2222"
    "--volume=${cfg.fleet}:/config:ro"
    "--volume=${cfg.stateVolume}:/state"
  ]
  ++ lib.optional hasMetrics "--publish=127.0.0.1:${toString cfg.metricsPort}:9470";

  # Any address in the container: it is reachable only through the published port.
  arguments = lib.optionals hasMetrics [
    "serve"
    "--metrics=0.0.0.0:9470"
  ];
  hasMetrics = cfg.metricsPort != null;

  # `bento status` and other commands run in the container, which only its user can reach.
  command = pkgs.writeShellScriptBin "bento-appliance" ''
    exec ${pkgs.util-linux}/bin/runuser --user ${cfg.user} -- \
      ${pkgs.coreutils}/bin/env --chdir=/ PATH=${config.security.wrapperDir} \
      ${lib.concatStringsSep " " (lib.mapAttrsToList (name: value: "${name}=${value}") environment)} \
      ${podman} exec --interactive ${container} bento "$@"
  '';
in
{
  options.services.bento-appliance = {
    enable = lib.mkEnableOption "the bento appliance, which publishes a fleet's configurations to its machines";

    image = mkOption {
      type = types.package;
      default = pkgs.bento-appliance-image or (pkgs.callPackage ./image.nix { });
      defaultText = literalExpression "pkgs.bento-appliance-image or (pkgs.callPackage ./image.nix { })";
      description = "The container's image: an OCI archive with `localhost/bento`.";
    };

    user = mkOption {
      type = plain;
      default = "bento";
      description = "The user that runs the container. The module creates it, with subordinate ids of its own.";
    };

    fleet = mkOption {
      type = plain;
      example = "/srv/fleet";
      description = ''
        The fleet folder, mounted read-only as `/config` in the container. {option}`user` must be
        able to read all of it, with the secrets; no other user needs to.
      '';
    };

    port = mkOption {
      type = types.port;
      default = 2222;
      description = "The port of the appliance for the machines.";
    };

    metricsPort = mkOption {
      type = types.nullOr types.port;
      default = null;
      example = 9470;
      description = ''
        The port for Prometheus on this host's loopback address, with the metrics of the fleet and
        of the appliance at `/metrics`. `null`: no metrics.
      '';
    };

    stateVolume = mkOption {
      type = plain;
      default = "bento-state";
      description = ''
        The podman volume for `/state` in the container, or the absolute path of a folder that
        belongs to {option}`user`. It holds host keys, generations and reports, and must persist.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open {option}`port` in the firewall.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = lib.hasPrefix "/" cfg.fleet && !lib.hasPrefix builtins.storeDir cfg.fleet;
        message = ''
          services.bento-appliance.fleet is "${cfg.fleet}". It must be an absolute path outside the
          Nix store: every user can read the store, and a change of the fleet would not reach it.'';
      }
    ];

    virtualisation.podman.enable = true;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;
    environment.systemPackages = [ command ];

    users.users.${cfg.user} = {
      isSystemUser = true;
      group = cfg.user;
      inherit home;
      createHome = true;
      autoSubUidGidRange = true;
    };
    users.groups.${cfg.user} = { };

    systemd.services.bento-appliance = {
      description = "The bento appliance";
      wantedBy = [ "multi-user.target" ];
      after = [ "network-online.target" ];
      wants = [ "network-online.target" ];
      unitConfig.RequiresMountsFor = [ home cfg.fleet ];

      inherit environment;
      # newuidmap and newgidmap must be setuid, so they are wrappers.
      path = [ (dirOf config.security.wrapperDir) ];

      serviceConfig = {
        User = cfg.user;
        Type = "notify";
        # READY=1 comes from inside the container.
        NotifyAccess = "all";
        # Created at each start, without podman's old records of killed processes.
        RuntimeDirectory = baseNameOf runtime;
        RuntimeDirectoryMode = "0700";
        ExecStartPre = [
          "${podman} load --quiet --input=${cfg.image}"
          # Remove unnamed images of earlier versions.
          "-${podman} image prune --force"
        ];
        ExecStart = "${podman} run ${toString flags} ${toString ([ "localhost/bento:latest" ] ++ arguments)}";
        # The appliance lets running sessions end for 8 s.
        ExecStop = "${podman} stop --ignore --time=10 ${container}";
        ExecStopPost = "${podman} rm --force --ignore ${container}";
        KillMode = "mixed";
        Restart = "always";
        RestartSec = "5s";
        TimeoutStartSec = "2min";
        TimeoutStopSec = "30s";
      };
    };
  };
}
