# The appliance's image, an OCI archive for `podman load`, made of nixpkgs' OpenSSH.
{
  callPackage,
  openssh,
  runCommand,
  bento ? callPackage ./package.nix { program = "bento"; },
  bento-image ? callPackage ./package.nix { program = "bento-image"; },
}:
# bento-image finds sshd and ssh-keygen on PATH, and the libraries in the files themselves.
runCommand "bento.oci.tar" { nativeBuildInputs = [ bento-image openssh ]; } ''
  bento-image build --binary ${bento}/bin/bento --output "$out"
''
