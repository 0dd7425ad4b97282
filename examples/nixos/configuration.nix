{
  networking.hostName = "host";
  system.stateVersion = "26.05";

  virtualisation.nkudo = {
    enable = true;
    networks.lan = { address = [ "192.168.100.1/24" ]; nat = true; };
    vms.web = {
      memory = "1G";
      nic = [{ network = "lan"; address = "192.168.100.10"; }];
      nixos = { services.nginx.enable = true; networking.firewall.allowedTCPPorts = [ 80 ]; };
    };
  };
}
