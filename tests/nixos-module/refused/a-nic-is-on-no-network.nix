{
  virtualisation.nkudo = {
    enable = true;
    networks.lan = { };
    vms.web = { kernel = "/srv/vmlinux"; nic = [{ network = "lna"; }]; };
  };
}
