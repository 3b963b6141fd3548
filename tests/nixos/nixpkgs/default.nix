# `import <nixpkgs> { }` with Debian's programs.
{
  system ? builtins.currentSystem,
  config ? { },
  overlays ? [ ],
  ...
}:
let
  nixpkgs = import ./stored.nix { name = "checkout"; };
  debian = import ./debian.nix;
in
import nixpkgs {
  inherit system;
  config = config // {
    # Which of Debian's versions they are doesn't matter here.
    allowBroken = true;
    allowUnsupportedSystem = true;
    allowAliases = false;
  };
  overlays = [ (import ./overlay.nix { inherit debian; }) ] ++ overlays;
  stdenvStages = import ./stdenv.nix {
    inherit nixpkgs;
    debian = debian.tree;
  };
}
