# services.bento-client: keeps this machine up to date with its bento appliance.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) literalExpression mkOption types;

  cfg = config.services.bento-client;
  toml = pkgs.formats.toml { };

  server = types.submodule {
    options = {
      address = mkOption {
        type = types.nonEmptyStr;
        example = "bento.example.org";
        description = "The appliance's name or address.";
      };
      port = mkOption {
        type = types.port;
        default = 2222;
        description = "The appliance's port.";
      };
      hostKeys = mkOption {
        # The 51 bytes of an ed25519 key: 25 characters that they all share, and 43 of its own.
        type = types.listOf (types.strMatching "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}( .*)?");
        default = [ ];
        example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…" ];
        description = ''
          The host keys that the client accepts from this server, as `bento host-key` prints them.
          To replace a key, first list the old and the new one, then only the new one.
        '';
      };
    };
  };

  written = toml.generate "client.toml" cfg.settings;

  # Checked by the client itself, so that invalid settings fail the build, not the switch.
  checked = pkgs.runCommand "client.toml" { preferLocalBuild = true; } ''
    if ! ${cfg.package}/bin/bento-client check --settings-only --config ${written}; then
      echo "error: the options of services.bento-client give invalid settings" >&2
      exit 1
    fi
    cp ${written} "$out"
  '';
  clientRunsHere = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;

  # A valid name in place of one with capitals, underscores or a domain.
  suggestedName = lib.toLower (
    builtins.replaceStrings [ "_" ] [ "-" ] (builtins.head (builtins.split "\\." cfg.name))
  );

  withoutKeys = lib.filter (one: one.hostKeys == [ ]) cfg.servers;
in
{
  imports = [
    ./client/secrets.nix
    ./client/update.nix
    ./client/units.nix
  ];

  options.services.bento-client = {
    enable = lib.mkEnableOption "the bento client, which keeps this machine up to date with its appliance";

    package = mkOption {
      type = types.package;
      default = pkgs.bento-client or (pkgs.callPackage ./package.nix { });
      defaultText = literalExpression "pkgs.bento-client or (pkgs.callPackage ./package.nix { })";
      description = "The package with `bin/bento-client`.";
    };

    name = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = literalExpression "config.networking.hostName";
      example = "kikimora";
      description = "This machine's name in the fleet: the name after `hosts.` in the fleet's `fleet.toml`.";
    };

    servers = mkOption {
      type = types.listOf server;
      default = [ ];
      example = literalExpression ''
        [
          {
            address = "bento.example.org";
            hostKeys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…" ];
          }
        ]
      '';
      description = "The appliances that know this machine, tried in this order.";
    };

    identityFile = mkOption {
      type = types.str;
      default = "/var/lib/bento/id_ed25519";
      description = ''
        The private key for this machine's login to the appliance. `bento-client bootstrap` makes
        it; its public key goes into the fleet's `fleet.toml`.
      '';
    };

    interval = mkOption {
      type = types.nonEmptyStr;
      default = "*:0/15";
      example = "hourly";
      description = ''
        When to poll for a new generation, as an `OnCalendar=` expression of
        {manpage}`systemd.time(7)`. A run that was missed in suspend or while the machine was off is run later.
      '';
    };

    jitter = mkOption {
      type = types.nonEmptyStr;
      default = "15min";
      example = "0";
      description = ''
        The longest delay after each {option}`interval`, as a time span of
        {manpage}`systemd.time(7)`. Every machine has a constant delay of its own, so that not all
        machines of a fleet poll at once.
      '';
    };

    nixArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "--max-jobs"
        "1"
      ];
      description = ''
        This machine's own arguments for the build of its system with Nix, after the `nix_args` of
        the fleet.
      '';
    };

    nixPath = mkOption {
      type = types.nullOr types.nonEmptyStr;
      default =
        if config.nix.nixPath == [ ] then null else lib.concatStringsSep ":" config.nix.nixPath;
      defaultText = literalExpression ''lib.concatStringsSep ":" config.nix.nixPath'';
      example = "nixpkgs=/srv/nixpkgs:/nix/var/nix/profiles/per-user/root/channels";
      description = ''
        The `NIX_PATH` for the build of a `configuration.nix`; a flake needs none. `null`, the
        default with an empty {option}`nix.nixPath`, means the client's default: root's channels.
      '';
    };

    proxyCommand = mkOption {
      type = types.nullOr types.nonEmptyStr;
      default = null;
      example = literalExpression ''
        "''${pkgs.netcat-openbsd}/bin/nc -X 5 -x 127.0.0.1:9050 %h %p"
      '';
      description = ''
        A command for machines without a direct connection to the server: its standard input and
        output become the connection. `%h` and `%p` stand for the server's address and port. The
        timer's PATH has ssh; any other program needs its full path.
      '';
    };

    settings = mkOption {
      type = toml.type;
      default = { };
      example = {
        timeouts.connect = "1m";
      };
      description = ''
        The other settings of `client.toml`; use the options above for those that have one. An
        unknown key or a wrong value fails the build of the system. Only a cross-compiled system
        isn't checked.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = config.nix.enable;
        message = ''
          services.bento-client builds this machine's systems with Nix, but nix.enable is false, so NixOS
          doesn't set up Nix. Set nix.enable to true, or services.bento-client.enable to false.'';
      }
      {
        assertion = cfg.servers != [ ];
        message = ''
          services.bento-client.servers is empty: without a server this machine would never be
          updated again. Give at least one, with its address and host keys.'';
      }
      {
        assertion = withoutKeys == [ ];
        message = ''
          services.bento-client.servers: no hostKeys for ${
            lib.concatMapStringsSep ", " (one: "${one.address}:${toString one.port}") withoutKeys
          }. The client refuses a server
          without a known key. Add the appliance's key, which `bento host-key` prints.'';
      }
      {
        assertion = builtins.match "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?" cfg.name != null;
        message = ''
          services.bento-client.name is "${cfg.name}", which can't be a name in a fleet: 1 to 32
          characters of a-z, 0-9 and -, with no - at either end. By default it is
          networking.hostName. Set it to the machine's name in fleet.toml, such as
          "${suggestedName}"; there, set attribute = "${cfg.name}" for the system to build.'';
      }
      {
        assertion = lib.hasPrefix "/" cfg.identityFile && !lib.hasPrefix builtins.storeDir cfg.identityFile;
        message = ''
          services.bento-client.identityFile is "${cfg.identityFile}". It must be an absolute path
          outside the Nix store, which every user of this machine can read.'';
      }
    ];

    warnings = lib.optional (config.system.autoUpgrade.enable or false) ''
      system.autoUpgrade and services.bento-client are both enabled: each would replace the system that
      the other installed. Switch one of them off.'';

    services.bento-client.settings = {
      inherit (cfg) name;
      identity_file = cfg.identityFile;
      servers = map (one: {
        inherit (one) address port;
        host_keys = one.hostKeys;
      }) cfg.servers;
    }
    // lib.optionalAttrs (cfg.nixArgs != [ ]) { nix_args = cfg.nixArgs; }
    // lib.optionalAttrs (cfg.nixPath != null) { nix_path = cfg.nixPath; }
    // lib.optionalAttrs (cfg.proxyCommand != null) { proxy_command = cfg.proxyCommand; };

    environment.etc."bento/client.toml".source = if clientRunsHere then checked else written;
    environment.systemPackages = [ cfg.package ];
  };
}
