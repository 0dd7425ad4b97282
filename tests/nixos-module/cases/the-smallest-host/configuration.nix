{
  virtualisation.nkudo = {
    enable = true;
    vms.web.firmware = "/srv/nkudo/CLOUDHV.fd";
  };
}
