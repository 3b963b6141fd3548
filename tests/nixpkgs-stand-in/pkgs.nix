# Packages: Debian's own programs under nixpkgs' names, and builders that need only /bin/sh.
{ lib, system }:
let
  withText = text: { inherit text; passAsFile = [ "text" ]; };
  pkgs = lib.genAttrs [
    "bash" "coreutils" "curl" "git" "gitMinimal" "gzip" "htop" "nix" "openssh" "podman" "systemd"
    "util-linux" "vim"
  ] (_: "/usr") // {
    inherit lib system;
    stdenv.hostPlatform.system = system;
    stdenv.buildPlatform.canExecute = other: other.system == system;

    runCommand = name: variables: script: derivation (variables // {
      inherit name system script;
      builder = "/bin/sh";
      args = [ "-e" "-c" ". \"$scriptPath\"" ];
      passAsFile = variables.passAsFile or [ ] ++ [ "script" ];
      PATH = "/usr/bin:/bin";
    });
    writeText = name: text: pkgs.runCommand name (withText text) ''cp "$textPath" "$out"'';
    writeShellScript = name: text:
      pkgs.runCommand name (withText "#!/bin/sh\n${text}") ''install -m 0755 "$textPath" "$out"'';
    writeShellScriptBin = name: text:
      pkgs.runCommand name (withText "#!/bin/sh\n${text}") ''install -Dm 0755 "$textPath" "$out/bin/${name}"'';

    formats.toml = _: {
      type = lib.types.attrs;
      generate = name: value: pkgs.writeText name (lib.toTOML value);
    };

    # As if bento's overlay were applied. The test environment puts these files there.
    bento-client = "/opt/bento";
    bento-appliance-image = "/opt/bento/bento.oci.tar";
  };
in
pkgs
