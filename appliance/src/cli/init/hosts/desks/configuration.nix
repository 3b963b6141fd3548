{ ... }:
{
  imports = [ ./utils/common.nix ];

  # `nixos-generate-config` writes these for a machine. Where desks differ, import a file for each
  # in flake.nix, beside its name.
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
