{
  virtualisation.nkudo = {
    enable = true;
    vms.web = { kernel = "/srv/vmlinux"; firmware = "/srv/CLOUDHV.fd"; };
  };
}
