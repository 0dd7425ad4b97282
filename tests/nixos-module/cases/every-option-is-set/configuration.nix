{ pkgs, ... }:

{
  virtualisation.nkudo = {
    enable = true;
    package = pkgs.callPackage ../../../../nixos-module/package.nix { };
    openFirewall = true;
    settings.host = {
      state-dir = "/srv/nkudo";
      network-backend = "networkd";
      machined = true;
      tuning = {
        hugepages = { "2M" = 512; "1G" = 4; };
        ksm = { run = true; pages-to-scan = 1000; sleep = "20ms"; };
        cpu-governor = "performance";
        sysctl = { "vm.swappiness" = 10; "net.ipv4.tcp_rmem" = "4096 131072 6291456"; };
      };
      # A package in a text is its path.
      hypervisor = "${pkgs.cloud-hypervisor}/bin/cloud-hypervisor";
    };
    networks = {
      lan = {
        bridge = "br0";
        address = [ "192.168.100.1/24" "fd00:100::1/64" ];
        nat = "ipv4";
        route = "ipv6";
        dhcp = { range = "192.168.100.100-199"; lease = "12h"; };
        dns = [ "192.0.2.53" ];
        domain = "vms.example.org";
        isolate = true;
        forward = [{ port = 8080; to = "web:80"; proto = "tcp"; address = "192.0.2.10"; }];
      };
      outside = { uplink = "eth1"; vlan = 42; macvtap = false; };
      old = { existing-bridge = "br1"; };
      a-name-that-is-hashed = { };
    };
    images.base = {
      source = pkgs.coreutils;
      format = "raw";
    };
    images.debian = {
      source = "https://images.example/debian.raw";
      sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
      kernel = "inside";
    };
    vms = {
      db = {
        firmware = "/srv/nkudo/CLOUDHV.fd";
        rng.source = "/dev/hwrng";
        pci = [{ address = "0000:01:00.0"; }];
      };
      web = {
        vcpus = { boot = 2; max = 8; };
        memory = {
          size = "1G";
          max = "8G";
          hugepages = "2M";
          mergeable = false;
          shared = true;
          balloon = { size = "256M"; free-page-reporting = true; deflate-on-oom = true; };
        };
        # A file beside the configuration is copied to the store, and a package is its path.
        kernel = ../a-file-of-ones-own/own.toml;
        initrd = "${pkgs.coreutils}/initrd";
        cmdline = "console=ttyS0";
        disk = [
          { path = "/srv/nkudo/web.raw"; name = "root"; format = "raw"; read-only = false; }
          { path = pkgs.erofs-utils; format = "raw"; read-only = true; }
          { name = "copy"; image = "base"; size = "20G"; }
          { name = "volume"; size = "1G"; filesystem = "ext4"; label = "data"; }
        ];
        nic = [
          { network = "lan"; mac = "52:54:00:12:34:56"; address = [ "192.168.100.10" "fd00:100::10" ]; }
          { network = "outside"; }
          { network = "old"; }
        ];
        cloud-init = {
          hostname = "web";
          ssh-authorized-keys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example.org" ];
          user-data-file = "/run/secrets/web-user-data";
        };
        vsock-cid = 3;
        autostart = false;
        restart = "always";
        on-change = "defer";
        start-timeout = "5min";
        stop-timeout = "3min";
        ready = { when = "tcp:22"; on-timeout = "fail"; };
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
