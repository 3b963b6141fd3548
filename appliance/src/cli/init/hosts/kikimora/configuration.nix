{ ... }:
{
  imports = [ ./utils/common.nix ];

  networking.hostName = "kikimora";

  # `nixos-generate-config` writes these for a machine: put its hardware-configuration.nix beside
  # this file, import it above, and delete them.
  boot.loader.systemd-boot.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/boot";
    fsType = "vfat";
  };

  # bento-secrets/kikimora/wifi.env becomes /var/lib/bento/secrets/wifi.env, outside the Nix store,
  # which every user of the machine can read. So use its path, and never read it in Nix:
  #   networking.wireless.secretsFile = "/var/lib/bento/secrets/wifi.env";

  system.stateVersion = "26.05";
}
