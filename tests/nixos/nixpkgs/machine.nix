# What every machine of these tests is: hardware, kernel and disk are systemd-nspawn's.
{ config, lib, pkgs, ... }:
{
  nixpkgs.pkgs = import ./. { system = "x86_64-linux"; };

  boot.loader.grub.enable = false;
  boot.loader.initScript.enable = true;
  fileSystems."/" = {
    device = "none";
    fsType = "auto";
  };

  # Debian's programs look for their loader, libraries and data where Debian has them.
  environment.ldso = "${pkgs.debian}/lib64/ld-linux-x86-64.so.2";
  system.activationScripts.debian = ''
    mkdir -p /usr
    for folder in lib usr/lib usr/libexec usr/share; do ln -sfn ${pkgs.debian}/''${folder#usr/} /$folder; done
  '';

  # The host's kernel may have no modules.
  system.activationScripts.modprobe = lib.mkForce "";

  documentation.enable = false;
  environment.stub-ld.enable = false;
  security.pam.services.su.forwardXAuth = lib.mkForce false;
  # It has the host's network, or a cable whose address a test sets.
  networking.useDHCP = false;
  networking.resolvconf.enable = false;
  services.udev.enable = false;
  # The host's kernel may have no netfilter either.
  networking.firewall.enable = false;
  services.nscd.enable = false;
  system.nssModules = lib.mkForce [ ];
  nix.settings = {
    sandbox = false;
    substituters = lib.mkForce [ ];
    trusted-public-keys = lib.mkForce [ ];
    flake-registry = "";
    experimental-features = [ "nix-command" "flakes" ];
  };
  # The host has booted the kernel.
  system.build.initialRamdisk = lib.mkForce (pkgs.writeTextDir "initrd" "");
  system.build.initialRamdiskSecretAppender = lib.mkForce (pkgs.writeShellScriptBin "append-initrd-secrets" "");
  systemd.coredump.enable = false;
  systemd.oomd.enable = false;
  # Debian has these in other packages, or not any more.
  systemd.suppressedSystemUnits = [
    "systemd-vconsole-setup.service"
    "systemd-quotacheck.service"
    "systemd-boot-random-seed.service"
    "systemd-nspawn@.service"
    "systemd-udevd.service"
    "systemd-udevd-control.socket"
    "systemd-udevd-kernel.socket"
    "systemd-udev-trigger.service"
    "systemd-udev-settle.service"
    "systemd-tmpfiles-setup-dev-early.service"
    "dev-hugepages.mount"
    "sys-fs-fuse-connections.mount"
    "systemd-coredump.socket"
    "systemd-coredump@.service"
  ];
  systemd.shutdownRamfs.enable = false;
  system.disableInstallerTools = true;
  boot.enableContainers = false;
  programs.command-not-found.enable = false;
  programs.less.lessopen = null;
  services.logrotate.enable = false;
  services.udisks2.enable = false;
  fonts.fontconfig.enable = false;
  console.enable = false;
  boot.bcache.enable = false;
  services.lvm.enable = false;
  xdg.autostart.enable = false;
  xdg.icons.enable = false;
  xdg.mime.enable = false;
  xdg.sounds.enable = false;
}
