# What `import <nixpkgs> { }` and an attribute of it give.
{ system ? builtins.currentSystem }:
import ./pkgs.nix { lib = import ./lib.nix; inherit system; }
