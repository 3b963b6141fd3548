{
  description = "Two desks that differ only in their names";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Replace OWNER with the owner of your bento.
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
