{
  networking.firewall.filterForward = true;
  virtualisation.nkudo = {
    enable = true;
    openFirewall = true;
    networks = {
      lan = {
        address = [ "192.168.200.1/24" ];
        nat = true;
        dhcp = { range = "192.168.200.100-199"; };
      };
      a-name-that-is-hashed = {
        address = [ "192.168.100.1/24" ];
        dhcp = false;
        route = true;
      };
      # The host passes nothing on to it.
      inner.address = [ "192.168.150.1/24" ];
    };
  };
}
