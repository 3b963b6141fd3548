# config.system.build.toplevel: a folder with everything that a client of NixOS reads.
{ config, lib, pkgs, ... }:
let
  inherit (lib) concatMapStrings escapeShellArg;

  failed = builtins.filter (one: !one.assertion) config.assertions;
  checked = value:
    if failed != [ ] then throw "\nFailed assertions:${concatMapStrings (one: "\n- ${one.message}") failed}"
    else builtins.foldl' (rest: text: builtins.trace "warning: ${text}" rest) value config.warnings;

  # As on NixOS, a file that isn't a symlink has its mode in a file beside it.
  install = entry:
    let file = "$out/etc/${escapeShellArg entry.target}"; in
    ''
      mkdir -p "$(dirname ${file})"
      ln -s ${escapeShellArg "${entry.source}"} ${file}
    ''
    + lib.optionalString (entry.mode != "symlink") "echo ${escapeShellArg entry.mode} > ${file}.mode\n";

  # Each after those that it names.
  scripts = config.system.activationScripts;
  ordered = builtins.foldl' visit [ ] (builtins.attrNames scripts);
  visit = before: name:
    if builtins.elem name before then before
    else builtins.foldl' visit before scripts.${name}.deps ++ [ name ];
  snippet = name: ''
    (
    set -e
    ${scripts.${name}.text}
    )
    [ $? = 0 ] || { echo "Activation script snippet '${name}' failed" >&2; status=1; }
  '';

  # As in nixpkgs, where the check of switch inhibitors is one of them.
  checks = concatMapStrings (name: ''
    (
    ${config.system.preSwitchChecks.${name}}
    )
    if [ $? != 0 ]; then
        echo "Pre-switch check '${name}' failed"
        exit 1
    fi
  '') (builtins.attrNames config.system.preSwitchChecks);
  inhibitors = lib.concatStrings (lib.mapAttrsToList (name: value: "${name} : ${value}\n") config.system.switch.inhibitors);

  kernel = pkgs.runCommand "linux-${config.standIn.kernel}" { } ''
    mkdir -p "$out/modules"
    echo ${escapeShellArg config.standIn.kernel} | tee "$out/bzImage" "$out/initrd" > "$out/modules/version"
  '';
  version = "${config.system.stateVersion}.stand-in";
in
{
  config.environment.etc = {
    NIXOS.text = "";
    hostname.text = config.networking.hostName + "\n";
    # Debian's shells have no /run/current-system/sw on their PATH.
    "profile.d/system-packages.sh".text =
      "PATH=${lib.makeBinPath (lib.unique config.environment.systemPackages)}:$PATH\n";
  };

  config.system.preSwitchChecks.switchInhibitors = builtins.readFile ./switch-inhibitors.sh;

  config.system.build.toplevel = checked (
    pkgs.runCommand "nixos-system-${config.networking.hostName}-${version}" {
      snippets = concatMapStrings snippet ordered;
      inherit (config.standIn) bootLoader;
      inherit checks inhibitors;
      passAsFile = [ "snippets" "bootLoader" "checks" "inhibitors" ];
    } ''
      mkdir -p "$out/bin" "$out/etc"
      install -m 0755 ${./switch-to-configuration.sh} "$out/bin/switch-to-configuration"
      cat ${./activate-before.sh} "$snippetsPath" ${./activate-after.sh} > "$out/activate"
      chmod 0755 "$out/activate"
      ln -s activate "$out/init"
      ln -s ${kernel}/bzImage "$out/kernel"
      ln -s ${kernel}/initrd "$out/initrd"
      ln -s ${kernel}/modules "$out/kernel-modules"
      printf %s ${pkgs.system} > "$out/system"
      printf %s ${version} > "$out/nixos-version"
      echo ${toString config.standIn.exitCode} > "$out/exit-code"
      { echo "#!/bin/sh"; cat "$checksPath"; } > "$out/pre-switch-checks"
      chmod 0755 "$out/pre-switch-checks"
      cp "$inhibitorsPath" "$out/switch-inhibitors"
      ${lib.optionalString config.standIn.needsBus "touch $out/needs-bus"}
      { echo "#!/bin/sh -e"; cat "$bootLoaderPath"; } > "$out/install-boot-loader"
      chmod 0755 "$out/install-boot-loader"
      ${concatMapStrings install (builtins.filter (entry: entry.enable) (lib.attrValues config.environment.etc))}
    ''
  );
}
