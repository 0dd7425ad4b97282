{
  virtualisation.nkudo = {
    enable = true;
    networks.lan.address = [ "192.168.100.1/24" "fd00:100::1/64" ];
    vms = {
      web = {
        memory = "1G";
        nic = [{ network = "lan"; }];
        disk = [{ name = "data"; size = "20G"; filesystem = "xfs"; }];
        specialArgs.answer = 42;
        nixos = { answer, ... }: {
          services.nginx.enable = answer == 42;
        };
      };
      forgetful = {
        state = null;
        nixos.networking.hostName = "elephant";
      };
      other.firmware = "/srv/nkudo/CLOUDHV.fd";
    };
  };
}
