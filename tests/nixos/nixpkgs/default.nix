# `import <nixpkgs> { }` with Debian's programs.
{
  system ? builtins.currentSystem,
  config ? { },
  overlays ? [ ],
  ...
}:
let
  debian = import ./debian.nix {
    inherit system;
    hash = builtins.readFile ./debian.hash;
  };
in
import ./checkout {
  inherit system;
  config = config // {
    # Which of Debian's versions they are doesn't matter here.
    allowBroken = true;
    allowUnsupportedSystem = true;
    allowAliases = false;
  };
  overlays = [ (import ./overlay.nix { inherit debian; }) ] ++ overlays;
  stdenvStages = import ./stdenv.nix {
    nixpkgs = ./checkout;
    debian = debian.tree;
  };
}
