{
  description = "The nixpkgs in ./checkout with Debian's programs for its packages, for bento's tests";

  outputs =
    { self }:
    let
      checkout = import ./checkout/flake.nix;
      nixpkgs = checkout.outputs { self = self // { outPath = ./checkout; }; };
    in
    {
      lib = nixpkgs.lib // {
        nixosSystem = args: nixpkgs.lib.nixosSystem (args // { modules = args.modules ++ [ ./machine.nix ]; });
      };
      legacyPackages.x86_64-linux = import ./. { system = "x86_64-linux"; };
    };
}
