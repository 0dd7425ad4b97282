{
  virtualisation.nkudo = {
    enable = true;
    vms.web = { kernel = "/srv/vmlinux"; after = [ "db" ]; };
  };
}
