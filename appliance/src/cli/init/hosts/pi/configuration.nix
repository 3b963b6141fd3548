# A machine without flakes uses channels for nixpkgs and bento. Add bento once, as root:
#   nix-channel --add https://github.com/OWNER/bento/archive/main.tar.gz bento
#   nix-channel --update bento
{ ... }:
{
  imports = [
    <bento/nixos/client.nix>
    ./utils/common.nix
  ];

  networking.hostName = "pi";

  # `nixos-generate-config` writes these for a machine: put its hardware-configuration.nix beside
  # this file, import it above, and delete them.
  boot.loader.grub.enable = false;
  boot.loader.generic-extlinux-compatible.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/NIXOS_SD";
    fsType = "ext4";
  };

  system.stateVersion = "26.05";
}
