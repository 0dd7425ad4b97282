{
  virtualisation.nkudo = {
    enable = true;
    vms.web.memory = "1G";
  };
}
