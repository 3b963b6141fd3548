{
  description = "kikimora";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Where you have bento from: put its owner here.
    bento.url = "github:OWNER/bento";
  };

  outputs =
    { nixpkgs, bento, ... }:
    {
      nixosConfigurations.kikimora = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          bento.nixosModules.client
          ./configuration.nix
        ];
      };
    };
}
