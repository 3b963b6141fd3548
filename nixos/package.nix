# One of bento's three programs: `bento`, `bento-client` or `bento-image`.
{
  lib,
  stdenv,
  rustPlatform,
  pkg-config,
  openssl,
  zlib,
  program ? "bento-client",
}:
let
  crate =
    {
      bento = "bento-appliance";
      bento-client = "bento-client";
      bento-image = "bento-image";
    }
    .${program};
  workspace = (lib.importTOML ../Cargo.toml).workspace;
in
rustPlatform.buildRustPackage {
  pname = program;
  inherit (workspace.package) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions ([ ../Cargo.toml ../Cargo.lock ] ++ map (member: ../. + "/${member}") workspace.members);
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ pkg-config ];
  buildInputs = [
    openssl
    zlib
  ];

  cargoBuildFlags = [
    "--package=${crate}"
    "--package=bento-manual"
  ];
  # The end-to-end tests need podman, systemd and a network of their own.
  cargoTestFlags = [ "--package=${crate}" "--lib" "--bins" ];

  # Man pages and completions, which the programs define themselves.
  postInstall =
    lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
      $out/bin/bento-manual install $out ${program}
    ''
    + ''
      rm $out/bin/bento-manual
    '';

  meta = {
    description = "Keeps a fleet of NixOS machines up to date by pull";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = program;
  };
}
