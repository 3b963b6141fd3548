{
  description = "A stand-in for nixpkgs, for bento's tests: see README.md";

  outputs = { self }:
    let lib = import ./lib.nix; in
    {
      lib = lib // { nixosSystem = import ./nixos/eval.nix; };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: import self { inherit system; });
    };
}
