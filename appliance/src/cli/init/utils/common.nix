# What every machine has.
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
  # So that you can still get in when an update went wrong:
  #   users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 …" ];

  time.timeZone = "UTC";
  environment.systemPackages = [ pkgs.git ];

  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];
  # Old systems fill the disk, and their kernels fill /boot; a month of them is enough to go back.
  nix.gc = {
    automatic = true;
    dates = "weekly";
    options = "--delete-older-than 30d";
  };
}
