# Settings of every machine.
{ pkgs, ... }:
{
  imports = [ ./bento.nix ];

  networking.firewall.enable = true;

  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      PermitRootLogin = "prohibit-password";
    };
  };
  # To log in after a failed update:
  #   users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 …" ];

  time.timeZone = "UTC";
  environment.systemPackages = [ pkgs.git ];

  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];
  # Old systems fill the disk, and their kernels fill /boot. One month is enough for rollbacks.
  nix.gc = {
    automatic = true;
    dates = "weekly";
    options = "--delete-older-than 30d";
  };
}
