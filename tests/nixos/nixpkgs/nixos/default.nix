# `nix-build '<nixpkgs/nixos>'`: a configuration that isn't a flake.
{
  configuration ? <nixos-config>,
  system ? builtins.currentSystem,
}:
import "${import ../stored.nix { name = "checkout"; }}/nixos" {
  inherit system;
  configuration.imports = [
    configuration
    ../machine.nix
  ];
}
