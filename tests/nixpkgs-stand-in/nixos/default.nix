# `nix-build '<nixpkgs/nixos>'`: a configuration that isn't a flake.
{ configuration ? <nixos-config>, system ? builtins.currentSystem }:
let evaluated = import ./eval.nix { inherit system; modules = [ configuration ]; }; in
evaluated // { system = evaluated.config.system.build.toplevel; }
