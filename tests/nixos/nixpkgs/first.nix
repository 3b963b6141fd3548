# What a machine is before it is in a fleet: NixOS as it was installed.
{
  networking.hostName = "nixos";
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "24.05";
}
