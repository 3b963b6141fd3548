# A stdenv of one stage whose tools are Debian's: it stands in for nixpkgs' bootstrap.
{ nixpkgs, debian }:
{ lib, localSystem, config, overlays, ... }:
let
  # Debian's gcc with its headers, under the names that a build calls.
  cc = derivation {
    name = "debian-cc";
    inherit (localSystem) system;
    builder = "${debian}/bin/bash";
    PATH = "${debian}/bin";
    args = [
      "-ec"
      ''
        mkdir -p $out/bin $out/nix-support
        flags="-idirafter ${debian}/include -idirafter ${debian}/include/$(gcc -print-multiarch)"
        for name in cc gcc; do
          printf '#!${debian}/bin/bash\nexec ${debian}/bin/gcc %s "$@"\n' "$flags" >$out/bin/$name
          chmod +x $out/bin/$name
        done
        echo 'export CC=cc AR=ar STRIP=strip RANLIB=ranlib' >$out/nix-support/setup-hook
        exit 0
      ''
    ];
  } // {
    isGNU = true;
    isClang = false;
    targetPrefix = "";
    libc = libc;
    cc = cc;
    bintools = { inherit libc; dynamicLinker = "/lib64/ld-linux-x86-64.so.2"; isGNU = true; targetPrefix = ""; bintools = debian; };
  };
  libc = debian // rec { out = debian; bin = debian; dev = debian; lib = debian; outPath = debian.outPath; version = "2.41"; pname = "glibc"; };
  stdenv = import "${nixpkgs}/pkgs/stdenv/generic" {
    name = "stdenv-debian";
    inherit config cc;
    buildPlatform = localSystem;
    hostPlatform = localSystem;
    targetPlatform = localSystem;
    shell = "${debian}/bin/bash";
    initialPath = [ debian ];
    fetchurlBoot = { name ? baseNameOf (args.url or (builtins.head args.urls)), ... }@args: throw "nothing is fetched here: ${name}";
    preHook = ''
      export NIX_ENFORCE_PURITY= NIX_ENFORCE_NO_NATIVE=
    '';
  };
in
[ (_: { inherit config overlays stdenv; }) ]
