{ ... }:
{
  imports = [ ./utils/common.nix ];

  # `nixos-generate-config` writes these for a machine. If the desks differ, import a file for each
  # of them in flake.nix.
  boot.loader.systemd-boot.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/boot";
    fsType = "vfat";
  };

  system.stateVersion = "26.05";
}
