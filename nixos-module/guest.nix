# What a NixOS is as a guest of nkudo: booted by the kernel that the host gives it, with its store on a
# read-only disk and all else on a volume.
{ id, nics, state, stateVersion, hostPkgs }:
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkDefault mkIf;

  # Nothing of the host's: each disk has its name for a serial number (udev's 60-persistent-storage.rules).
  disk = name: "/dev/disk/by-id/virtio-${name}";

  family = address: if lib.hasInfix ":" address then "ipv6" else "ipv4";

  # `network` names hosts' addresses with the length of the prefix; a NIC's may lack it.
  withPrefix = network: address:
    let
      same = lib.findFirst (own: family own == family address) null (network.address or [ ]);
    in
    if lib.hasInfix "/" address || same == null then address
    else "${address}/${lib.last (lib.splitString "/" same)}";

  # The host is the way out for the families that it passes on.
  passesOn = network: one:
    lib.any (how: how == true || how == one) [ (network.nat or false) (network.route or false) ];
  gateways = network:
    lib.concatMap
      (one:
        let found = lib.findFirst (own: family own == one) null (network.address or [ ]); in
        lib.optional (found != null) (lib.head (lib.splitString "/" found)))
      (lib.filter (passesOn network) [ "ipv4" "ipv6" ]);

  # A network with DHCP tells the guest all of this.
  isStatic = nic: lib.elem (nic.network.dhcp or false) [ null false ] && nic.addresses != [ ];
in
{
  boot = {
    loader.grub.enable = mkDefault false;
    kernelParams = [ "console=${if pkgs.stdenv.hostPlatform.isAarch64 then "ttyAMA0" else "ttyS0"}" ];
    initrd = {
      systemd.enable = mkDefault true;
      # The devices of a VMM that has no others. The filesystems' modules NixOS adds itself.
      availableKernelModules = [ "virtio_pci" "virtio_blk" "virtio_net" "virtio_console" "virtio_balloon" ];
      kernelModules = [ "erofs" ];
    };
  };

  fileSystems = {
    "/" = mkDefault (
      if state == null then {
        device = "none";
        fsType = "tmpfs";
        options = [ "mode=0755" ];
      } else {
        device = disk "state";
        fsType = state.filesystem;
        # The volume grows when `state.size` does.
        autoResize = state.filesystem != "vfat";
      }
    );
    "/nix/store" = {
      device = disk "store";
      fsType = "erofs";
      options = [ "ro" ];
      neededForBoot = true;
    };
  };

  networking = {
    hostName = mkDefault id;
    useNetworkd = mkDefault true;
  };

  systemd.network.networks = lib.listToAttrs (lib.imap0
    (index: nic: lib.nameValuePair "10-nkudo-${toString index}" (mkIf (isStatic nic) {
      matchConfig = { Type = "ether"; MACAddress = nic.mac; };
      address = map (withPrefix nic.network) nic.addresses;
      gateway = gateways nic.network;
      dns = nic.network.dns or [ ];
    }))
    nics);

  # Its store is read-only, so nothing can be built in it.
  nix.enable = mkDefault false;
  documentation.enable = mkDefault false;

  nixpkgs.pkgs = mkDefault hostPkgs;

  # The host's, unless the guest says with which one it began.
  system = {
    stateVersion = mkDefault stateVersion;

    build.nkudoStore = pkgs.runCommand "${id}-store.erofs"
      {
        nativeBuildInputs = [ pkgs.buildPackages.erofs-utils pkgs.buildPackages.gnutar ];
        closure = pkgs.closureInfo { rootPaths = [ config.system.build.toplevel ]; };
        # The paths in the image are the guest's. Were they references, the host would keep a second copy of
        # every one of them in its own store.
        __structuredAttrs = true;
        unsafeDiscardReferences.out = true;
      } ''
      # In the order of their names, without times and owners: the same closure is the same image. The store's
      # own directory gives the root of the image its mode, which everybody could write to otherwise.
      sort "$closure/store-paths" | tar --create --absolute-names --verbatim-files-from \
        --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --hard-dereference \
        --transform='flags=rSh;s|^/nix/store/*|./|' \
        --no-recursion /nix/store --recursion --files-from=- \
        | mkfs.erofs --quiet -zlz4 -T 1 --all-root -L nix-store -U 6e6b7564-6f00-4000-8000-6e69782d7374 --tar=f "$out"
    '';
  };
}
