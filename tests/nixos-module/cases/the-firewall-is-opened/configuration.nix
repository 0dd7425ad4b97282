{
  networking.firewall.filterForward = true;
  virtualisation.nkudo = {
    enable = true;
    openFirewall = true;
    networks = {
      lan = { };
      a-name-that-is-hashed.address = [ "192.168.100.1/24" ];
    };
  };
}
