# systemd units, rendered as NixOS does.
{ config, lib, pkgs, ... }:
let
  inherit (lib) concatMapStrings mapAttrsToList optionalAttrs types;
  option = type: default: lib.mkOption { inherit type default; };
  section = option (types.attrsOf types.unspecified) { };

  # The dependencies of a unit, by the name of the option.
  dependencies = {
    after = "After";
    before = "Before";
    conflicts = "Conflicts";
    requires = "Requires";
    wants = "Wants";
  };
  common = {
    enable = option types.bool true;
    description = option types.str "";
    wantedBy = option (types.listOf types.str) [ ];
    unitConfig = section;
  } // builtins.mapAttrs (_: _: option (types.listOf types.str) [ ]) dependencies;
  service.options = common // {
    environment = option (types.attrsOf (types.nullOr types.str)) { };
    path = option (types.listOf types.package) [ ];
    script = option types.lines "";
    serviceConfig = section;
    startAt = option (types.coercedTo types.str (one: [ one ]) (types.listOf types.str)) [ ];
    restartIfChanged = option types.bool true;
    stopIfChanged = option types.bool true;
  };
  timer.options = common // { timerConfig = section; };

  line = key: value: "${key}=${if builtins.isBool value then lib.boolToString value else toString value}\n";
  lines = key: value: if builtins.isList value then concatMapStrings (line key) value else line key value;
  render = name: settings: "[${name}]\n" + lib.concatStrings (
    mapAttrsToList lines (lib.filterAttrs (_: value: value != [ ] && value != "") settings)
  );
  header = unit: render "Unit" (
    { Description = unit.description; }
    // builtins.listToAttrs (mapAttrsToList (name: key: lib.nameValuePair key (toString unit.${name})) dependencies)
    // unit.unitConfig
  );
  serviceText = name: unit:
    let
      path = lib.unique (unit.path ++ [ pkgs.coreutils pkgs.systemd ]);
      variables = { PATH = lib.makeBinPath path; }
        // lib.filterAttrs (_: value: value != null) unit.environment;
    in
    header unit + render "Service" (
      { Environment = mapAttrsToList (key: value: builtins.toJSON "${key}=${value}") variables; }
      // optionalAttrs (unit.script != "") {
        ExecStart = pkgs.writeShellScript "${name}-start" "set -e\n${unit.script}";
      }
      // optionalAttrs (!unit.restartIfChanged) { X-RestartIfChanged = false; }
      // optionalAttrs (!unit.stopIfChanged) { X-StopIfChanged = false; }
      // unit.serviceConfig
    );
  timerText = _: unit: header unit + render "Timer" unit.timerConfig;

  # In a folder of its own, because systemd takes a link to a file of another name for an alias.
  file = name: text: pkgs.runCommand "unit-${name}" { inherit text; passAsFile = [ "text" ]; } ''
    install -Dm 0644 "$textPath" "$out/${name}"
  '' + "/${name}";
  units = suffix: text: mapAttrsToList (name: unit:
    let full = "${name}.${suffix}"; in unit // { name = full; source = file full (text name unit); }
  );
  all = units "service" serviceText config.systemd.services ++ units "timer" timerText config.systemd.timers;
  files = unit: map (directory: {
    name = "systemd/system/${directory}${unit.name}";
    value = { inherit (unit) source; };
  }) ([ "" ] ++ map (target: "${target}.wants/") unit.wantedBy);
in
{
  options.systemd.services = option (types.attrsOf (types.submodule service)) { };
  options.systemd.timers = option (types.attrsOf (types.submodule timer)) { };

  config.systemd.timers = builtins.mapAttrs (_: unit: {
    wantedBy = [ "timers.target" ];
    timerConfig.OnCalendar = unit.startAt;
  }) (lib.filterAttrs (_: unit: unit.startAt != [ ]) config.systemd.services);

  # A boot finds in /etc what ran last, which needn't be what is to be booted. NixOS puts that right
  # before systemd starts; here it is done as early as systemd lets it.
  config.systemd.services.stand-in-boot = {
    description = "What NixOS does before it starts systemd";
    wantedBy = [ "sysinit.target" ];
    before = [ "sysinit.target" "network-pre.target" "bento-secrets.service" ];
    after = [ "local-fs.target" ];
    unitConfig.DefaultDependencies = false;
    unitConfig.ConditionPathExists = [ "!/run/current-system" "/boot/default-system" ];
    serviceConfig.Type = "oneshot";
    script = ''
      /boot/default-system/init
      systemctl daemon-reload
      systemctl start --no-block sysinit.target timers.target multi-user.target
    '';
  };

  config.environment.etc = builtins.listToAttrs (
    builtins.concatMap files (builtins.filter (unit: unit.enable) all)
  );
}
