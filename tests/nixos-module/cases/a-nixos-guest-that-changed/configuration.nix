{
  imports = [ ../a-nixos-guest/configuration.nix ];

  virtualisation.nkudo.vms.web.nixos = { pkgs, ... }: {
    environment.systemPackages = [ pkgs.gnutar ];
  };
}
