{
  systemd.package = {
    type = "derivation";
    name = "systemd-256.9";
    version = "256.9";
    outPath = "/nix/store/00000000000000000000000000000000-systemd-256.9";
  };
  virtualisation.nkudo.enable = true;
}
