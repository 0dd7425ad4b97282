{
  imports = [ ./hardware-configuration.nix ];

  networking.hostName = "host";
  system.stateVersion = "26.05";

  virtualisation.nkudo = {
    enable = true;
    networks.lan.address = [ "192.168.100.1/24" ];
    vms.web = {
      vcpus = 2;
      memory = "1G";
      # A firmware that boots what is on the first disk.
      firmware = "/srv/nkudo/CLOUDHV.fd";
      disk = [{ path = "/srv/nkudo/web.raw"; }];
      nic = [{ network = "lan"; }];
    };
  };
}
