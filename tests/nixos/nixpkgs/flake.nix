{
  description = "A checkout of nixpkgs with Debian's programs for its packages, for bento's tests";

  outputs =
    { self }:
    let
      checkout = import ./stored.nix { name = "checkout"; };
      nixpkgs = (import "${checkout}/flake.nix").outputs { self = self // { outPath = "${checkout}"; }; };
    in
    {
      lib = nixpkgs.lib // {
        nixosSystem = args: nixpkgs.lib.nixosSystem (args // { modules = args.modules ++ [ ./machine.nix ]; });
      };
      legacyPackages.x86_64-linux = import ./. { system = "x86_64-linux"; };
    };
}
