{
  virtualisation.nkudo = {
    enable = true;
    networks = {
      # No DHCP: the guest is told while it is built.
      lan = {
        address = [ "192.168.100.1/24" "fd00:100::1/64" ];
        nat = "ipv4";
        dns = [ "192.0.2.53" ];
      };
      # The guest asks.
      wan = { address = [ "192.168.200.1/24" ]; dhcp = true; };
      # The host is no way out.
      inner = { address = [ "192.168.150.1/24" ]; };
    };
    vms.web = {
      memory = "1G";
      nic = [
        { network = "lan"; address = [ "192.168.100.10" "fd00:100::10" ]; }
        { network = "wan"; address = "192.168.200.10"; mac = "52:54:00:12:34:56"; }
        { network = "inner"; address = "192.168.150.10/25"; }
        { network = "inner"; }
      ];
      nixos.services.nginx.enable = true;
    };
  };
}
