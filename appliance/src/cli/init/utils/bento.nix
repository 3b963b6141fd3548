# How every machine finds its appliance, and knows that it is the right one.
{
  services.bento-client = {
    enable = true;
    servers = [
      {
        address = "bento.example.org";
        port = 2222;
        # What `bento host-key` prints. No machine builds before it is here.
        hostKeys = [ ];
      }
    ];
  };
}
