# What Nix can know before anything is built. All else is `nkudo check`'s, which says it better.
{ config, lib, pkgs, ... }:

let
  cfg = config.virtualisation.nkudo;

  fromSchema = import ./from-schema.nix { inherit lib; };

  option = "virtualisation.nkudo";

  claim = assertion: message: { inherit assertion message; };

  systemd = config.systemd.package.version;

  # Unit files that would stand where transient units are to be.
  units = lib.attrNames (lib.filterAttrs
    (name: service: lib.hasPrefix "nkudo-vm@" name && service.overrideStrategy != "asDropin")
    config.systemd.services);

  # `settings` has what the typed options say as well.
  section = name: cfg.settings.${name} or { };
  vms = section "vm";

  names = section': lib.mapAttrsToList
    (name: _: claim (builtins.match (fromSchema.names section') name != null && lib.stringLength name <= 63) ''
      ${option}: `${name}` cannot be the name of a ${{ vm = "VM"; }.${section'} or section'}: it is not 1 to 63 of
      a-z, 0-9 and `-`, or begins or ends with a `-`.
    '')
    (section section');

  # The publisher of an image may give its kernel beside it.
  hasKernel = vm:
    let first = lib.head (vm.disk or [ ] ++ [{ }]); in
    section "image" ? ${first.image or ""}.kernel;

  vm = id: vm:
    [
      (claim (vm ? kernel || vm ? firmware || hasKernel vm) ''
        ${option}.vms.${id} has nothing to boot: set `kernel`, or `firmware`, or let NixOS make both kernel
        and disk with `nixos`.
      '')
      (claim (!(vm ? kernel && vm ? firmware)) ''
        ${option}.vms.${id} has both a `kernel` and a `firmware`; leave out one.
      '')
    ]
    ++ map
      (nic: claim (section "network" ? ${nic.network or ""}) ''
        ${option}.vms.${id}: a NIC is on the network `${nic.network or ""}`, which is not declared in ${option}.networks.
      '')
      (vm.nic or [ ])
    ++ map
      (disk: claim (section "image" ? ${disk.image}) ''
        ${option}.vms.${id}: a disk is of the image `${disk.image}`, which is not declared in ${option}.images.
      '')
      (lib.filter (disk: disk ? image) (vm.disk or [ ]))
    ++ map
      (other: claim (vms ? ${other}) ''
        ${option}.vms.${id} starts `after` the VM `${other}`, which is not declared.
      '')
      (vm.after or [ ]);

  cids = lib.groupBy (id: toString vms.${id}.vsock-cid)
    (lib.filter (id: vms.${id} ? vsock-cid) (lib.attrNames vms));
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      (claim (lib.versionAtLeast systemd "257") ''
        nkudo needs systemd 257 or newer, and this NixOS has ${systemd}.
      '')
      (claim (pkgs.stdenv.hostPlatform.isLinux && (pkgs.stdenv.hostPlatform.isx86_64 || pkgs.stdenv.hostPlatform.isAarch64)) ''
        nkudo runs on x86_64 and aarch64 Linux, not on ${pkgs.stdenv.hostPlatform.system}.
      '')
      (claim (units == [ ]) ''
        systemd.services."${lib.head units}" would take the name of a VM's unit, which is transient. With
        `overrideStrategy = "asDropin"` it is a drop-in, which the VM's unit obeys.
      '')
    ] ++ (if cfg.configFile != null then [
      (claim (cfg.settings == { } && cfg.vms == { } && cfg.networks == { } && cfg.images == { }) ''
        ${option}.configFile is in place of `vms`, `networks`, `images` and `settings`: set either it or these.
      '')
    ] else
      lib.concatMap names [ "vm" "network" "image" ]
        ++ lib.concatLists (lib.mapAttrsToList vm vms)
        ++ lib.mapAttrsToList
        (cid: ids: claim (lib.length ids == 1) ''
          ${option}: the VMs ${lib.concatStringsSep " and " ids} have the same vsock-cid, ${cid}.
        '')
        cids);
  };
}
