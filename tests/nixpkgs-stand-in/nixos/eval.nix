# `nixpkgs.lib.nixosSystem`.
{ modules, system ? null, specialArgs ? { } }:
let
  lib = import ../lib.nix;
  pkgs = import ../pkgs.nix {
    inherit lib;
    system = if system == null then evaluated.config.nixpkgs.hostPlatform else system;
  };
  evaluated = lib.evalModules {
    modules = modules ++ [ ./options.nix ./users.nix ./units.nix ./toplevel.nix ];
    specialArgs = { inherit pkgs; } // specialArgs;
  };
in
evaluated // { inherit pkgs; }
