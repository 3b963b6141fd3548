# The options that mean something here. Any other option of NixOS' own is taken and ignored.
{ config, lib, pkgs, ... }:
let
  inherit (lib) types;
  option = type: default: lib.mkOption { inherit type default; };
  etc = { config, name, ... }: {
    options.enable = option types.bool true;
    options.target = option types.str name;
    options.text = option (types.nullOr types.lines) null;
    options.source = option types.path (pkgs.writeText (baseNameOf name) config.text);
    options.mode = option types.str "symlink";
  };
  snippet = {
    options.text = option types.lines "";
    options.deps = option (types.listOf types.str) [ ];
  };
  lookup = entry: if entry.prefix == "" then entry.path else "${entry.prefix}=${entry.path}";
in
{
  options = {
    assertions = option (types.listOf types.attrs) [ ];
    warnings = option (types.listOf types.str) [ ];
    system.stateVersion = option types.str "25.11";
    system.build = option (types.attrsOf types.unspecified) { };
    # NixOS builds these before a system. Here only the tests that are about them do.
    system.checks = option (types.listOf types.package) [ ];
    system.activationScripts = option (types.attrsOf (
      types.coercedTo types.str (text: { inherit text; }) (types.submodule snippet)
    )) { };
    system.preSwitchChecks = option (types.attrsOf types.lines) { };
    system.switch.inhibitors = option (types.attrsOf types.str) { };
    environment.systemPackages = option (types.listOf types.package) [ ];
    environment.sessionVariables = option (types.attrsOf types.str) { };
    environment.etc = option (types.attrsOf (types.submodule etc)) { };
    networking.hostName = option (types.strMatching "|[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?") "nixos";
    networking.proxy.envVars = option (types.attrsOf types.str) { };
    time.timeZone = option (types.nullOr types.str) null;

    # A machine goes on looking things up where its own configuration was.
    nix.nixPath = option (types.listOf types.str) (
      lib.unique (map lookup (builtins.filter (entry: entry.prefix != "nixos-config") builtins.nixPath))
    );
    nix.enable = option types.bool true;
    nix.envVars = option (types.attrsOf types.str) { };
    nix.package = option types.package pkgs.nix;
    nixpkgs.hostPlatform = lib.mkOption { type = types.str; };
    programs.ssh.package = option types.package pkgs.openssh;
    security.wrapperDir = option types.path "/usr/bin";
    systemd.package = option types.package pkgs.systemd;
    virtualisation.podman.enable = option types.bool false;
    virtualisation.podman.package = option types.package pkgs.podman;

    # To play what happens to a real machine only now and then. The exit code is that of
    # switch-to-configuration: 4 after it has done its work; 100, which `boot` doesn't know, before it
    # activates anything; any other before it does anything.
    standIn.exitCode = option types.int 0;
    # Whether switch-to-configuration needs the system bus, as that of recent versions of NixOS does.
    standIn.needsBus = option types.bool false;
    # A shell script in place of a boot loader's: run by `switch` and `boot` before the
    # system to boot is set. If it fails, so do they.
    standIn.bootLoader = option types.lines "";
    # Another version asks for a reboot.
    standIn.kernel = option types.str "6.12";
  };

  config.environment.sessionVariables = lib.mkIf config.nix.enable {
    NIX_PATH = builtins.concatStringsSep ":" config.nix.nixPath;
  };
}
