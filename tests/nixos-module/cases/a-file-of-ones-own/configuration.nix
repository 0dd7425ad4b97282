{
  virtualisation.nkudo = {
    enable = true;
    configFile = ./own.toml;
  };
}
