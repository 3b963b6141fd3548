# The address and the host key of the appliance, for every machine.
{
  services.bento-client = {
    enable = true;
    servers = [
      {
        address = "bento.example.org";
        port = 2222;
        # The key from `bento host-key`. Machines can't build without it.
        hostKeys = [ ];
      }
    ];
  };
}
