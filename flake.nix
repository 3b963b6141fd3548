{
  description = "Keeps a fleet of NixOS machines up to date by pull";

  # A release of NixOS may have an older Rust than Cargo.toml asks for.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem = f: lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: f nixpkgs.legacyPackages.${system});
      packagesFor = pkgs: import ./default.nix { inherit pkgs; };
      # This flake's own, for the machine that evaluates a module.
      packagesOf = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
    in
    {
      packages = eachSystem (pkgs: packagesFor pkgs // { default = (packagesFor pkgs).bento; });

      # nixpkgs has another program called bento, so the appliance's has a longer name here.
      overlays.default =
        final: _:
        let
          packages = packagesFor final;
        in
        {
          inherit (packages) bento-client bento-image;
          bento-appliance = packages.bento;
          bento-appliance-image = packages.image;
        };

      nixosModules = rec {
        client =
          { lib, pkgs, ... }:
          {
            imports = [ ./nixos/client.nix ];
            services.bento-client.package = lib.mkDefault (packagesOf pkgs).bento-client;
          };
        appliance =
          { lib, pkgs, ... }:
          {
            imports = [ ./nixos/appliance.nix ];
            services.bento-appliance.image = lib.mkDefault (packagesOf pkgs).image;
          };
        default = {
          imports = [
            client
            appliance
          ];
        };
      };

      # The packages run their unit tests when they are built.
      checks = eachSystem packagesFor;

      # What is written in Nix; `cargo fmt` does the rest.
      formatter = eachSystem (pkgs: pkgs.nixfmt-tree or pkgs.nixfmt-rfc-style);

      devShells = eachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (packagesOf pkgs).bento-client ];
          packages = [
            pkgs.clippy
            pkgs.rustfmt
            pkgs.podman
            pkgs.openssh
          ];
        };
      });
    };
}
