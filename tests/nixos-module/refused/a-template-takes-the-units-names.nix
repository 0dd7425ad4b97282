{
  virtualisation.nkudo.enable = true;
  systemd.services = {
    "nkudo-vm@".description = "A template";
    "nkudo-vm@web" = {
      description = "A drop-in";
      overrideStrategy = "asDropin";
    };
  };
}
