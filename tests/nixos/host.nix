# A host of the VM tests: a bridge, and two VMs of the stand-in's.
{ programs, networkd }:
{ lib, ... }:

{
  imports = [ ../../nixos-module ];

  networking = {
    useNetworkd = networkd;
    useDHCP = false;
  };

  # NixOS leaves it out of tests that have no use for it.
  system.switch.enable = true;

  virtualisation.nkudo = {
    enable = true;
    settings.host.hypervisor = "${programs}/bin/cloud-hypervisor";
    networks.lan.address = [ "192.168.100.1/24" ];
    vms = lib.genAttrs [ "db" "web" ] (_: {
      kernel = "${programs}/guests/waits-for-its-power-button";
      memory = "64M";
      nic = [{ network = "lan"; }];
    });
  };
}
