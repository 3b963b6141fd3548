# bento's programs, for who has no flakes: nix-build '<bento>' --attr bento-client
{
  pkgs ? import <nixpkgs> { },
}:
rec {
  bento = pkgs.callPackage ./nixos/package.nix { program = "bento"; };
  bento-client = pkgs.callPackage ./nixos/package.nix { program = "bento-client"; };
  bento-image = pkgs.callPackage ./nixos/package.nix { program = "bento-image"; };
  image = pkgs.callPackage ./nixos/image.nix { inherit bento bento-image; };
}
