# A machine of a fleet, for what all of them have in common.
{
  imports = [ <bento/nixos/client.nix> ];
  networking.hostName = "any";
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "24.05";
  services.bento-client = {
    enable = true;
    servers = [
      {
        address = "127.0.0.1";
        hostKeys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1tZ2mWyM7pCVYyUjH0aKl5y1vpXUkNl3jtCqEJ3h3R" ];
      }
    ];
  };
}
