{ pkgs, ... }:

{
  virtualisation.nkudo = {
    enable = true;
    package = pkgs.callPackage ../../../../nixos-module/package.nix { };
    openFirewall = true;
    settings.host = {
      state-dir = "/srv/nkudo";
      network-backend = "networkd";
      # A package in a text is its path.
      hypervisor = "${pkgs.cloud-hypervisor}/bin/cloud-hypervisor";
    };
    networks = {
      lan = {
        bridge = "br0";
        address = [ "192.168.100.1/24" "fd00:100::1/64" ];
      };
      a-name-that-is-hashed = { };
    };
    vms = {
      db.firmware = "/srv/nkudo/CLOUDHV.fd";
      web = {
        vcpus = { boot = 2; max = 8; };
        memory = {
          size = "1G";
          max = "8G";
          hugepages = "2M";
          mergeable = false;
          shared = true;
          balloon = true;
        };
        # A file beside the configuration is copied to the store, and a package is its path.
        kernel = ../a-file-of-ones-own/own.toml;
        initrd = "${pkgs.coreutils}/initrd";
        cmdline = "console=ttyS0";
        disk = [
          { path = "/srv/nkudo/web.raw"; name = "root"; format = "raw"; read-only = false; }
          { path = pkgs.erofs-utils; format = "raw"; read-only = true; }
        ];
        nic = [{ network = "lan"; mac = "52:54:00:12:34:56"; }];
        vsock-cid = 3;
        autostart = false;
        restart = "always";
        on-change = "defer";
        start-timeout = "5min";
        stop-timeout = "3min";
        ready = { when = "vmm"; on-timeout = "fail"; };
        after = [ "db" ];
        limits = {
          cpu-weight = 200;
          cpu-quota = "150%";
          memory-high = "2560M";
          memory-max = "3G";
          io-weight = 50;
          tasks-max = 512;
        };
      };
    };
  };
}
