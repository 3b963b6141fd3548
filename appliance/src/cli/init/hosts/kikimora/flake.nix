{
  description = "kikimora";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Replace OWNER with the owner of your bento.
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
