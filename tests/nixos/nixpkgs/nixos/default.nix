# `nix-build '<nixpkgs/nixos>'`: a configuration that isn't a flake.
{
  configuration ? <nixos-config>,
  system ? builtins.currentSystem,
}:
import ../checkout/nixos {
  inherit system;
  configuration.imports = [
    configuration
    ../machine.nix
  ];
}
