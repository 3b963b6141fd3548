{
  description = "Two desks, alike but for their names";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Where you have bento from: put its owner here.
    bento.url = "github:OWNER/bento";
  };

  outputs =
    { nixpkgs, bento, ... }:
    let
      desk =
        name:
        nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          modules = [
            bento.nixosModules.client
            ./configuration.nix
            { networking.hostName = name; }
          ];
        };
    in
    {
      nixosConfigurations = nixpkgs.lib.genAttrs [ "alice" "bob" ] desk;
    };
}
