# What `base` has put into the store, by its hash: it is never built, and can be named where nothing impure can.
{ name, system ? "x86_64-linux" }:
derivation {
  inherit name system;
  builder = "/${name}/is/not/in/this/store";
  outputHashMode = "recursive";
  outputHashAlgo = "sha256";
  outputHash = builtins.readFile (./. + "/${name}.hash");
}
