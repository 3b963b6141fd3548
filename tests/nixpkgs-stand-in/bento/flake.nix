{
  description = "A stand-in for bento's flake on a test machine: the real module, the program as it was built";

  # A flake can't reach outside its own folder: the test environment copies this one to
  # /srv/bento-stand-in, and the repository's nixos/ to ./nixos in it.
  outputs = { self }: {
    nixosModules.client = {
      imports = [ ./nixos/client.nix ];
      # A machine that builds without the network says so in its own arguments.
      services.bento-client.nixArgs = [
        "--override-input" "nixpkgs" "path:/srv/nixpkgs-stand-in"
        "--override-input" "bento" "path:/srv/bento-stand-in"
      ];
    };
  };
}
