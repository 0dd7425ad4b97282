# `vms.<id>.nixos`: a NixOS that is evaluated here, as its VM's kernel, command line and disks.
#
# The guest is a configuration of its own: an edit of the host's builds nothing of it, and one of it changes
# nothing of the host's but /etc/nkudo/nkudo.toml.
{ lib, pkgs, networks, stateVersion }:

let
  inherit (lib) mkDefault mkIf mkOption types;

  # A guest knows its NICs by their addresses, so they have to be known while it is built.
  mac = id: index:
    let
      hash = builtins.hashString "sha256" "nkudo ${id}/${toString index}";
      byte = at: lib.substring (at * 2) 2 hash;
    in
    # Locally administered, unicast.
    lib.concatStringsSep ":" ([ "02" ] ++ map byte (lib.range 0 4));

  nics = id: vm: lib.imap0
    (index: nic: {
      mac = if nic.mac == null then mac id index else nic.mac;
      addresses = lib.toList (if nic.address or null == null then [ ] else nic.address);
      network = networks.${nic.network} or { };
    })
    (if vm.nic == null then [ ] else vm.nic);

  evaluate = id: vm: import (pkgs.path + "/nixos/lib/eval-config.nix") {
    inherit lib;
    system = null;
    inherit (vm) specialArgs;
    prefix = [ "virtualisation" "nkudo" "vms" id "nixos" ];
    modules = [
      (import ./guest.nix {
        inherit id stateVersion;
        inherit (vm) state;
        nics = nics id vm;
        hostPkgs = pkgs;
      })
      vm.nixos
    ];
  };
in
{
  # A part of the table `vms.<id>`.
  module = { name, config, ... }: {
    options = {
      nixos = mkOption {
        type = types.nullOr types.deferredModule;
        default = null;
        example = lib.literalExpression ''
          {
            services.nginx.enable = true;
            networking.firewall.allowedTCPPorts = [ 80 ];
          }
        '';
        description = ''
          A NixOS configuration that the VM runs. It gives the VM its `kernel`, `initrd` and `cmdline`, a
          read-only disk `store` with all that the guest needs of the Nix store, and the volume of
          {option}`state`. NICs of it without a `mac` get one that the guest knows.
        '';
      };

      specialArgs = mkOption {
        type = types.lazyAttrsOf types.unspecified;
        default = { };
        example = lib.literalExpression "{ inherit inputs; }";
        description = "What modules of {option}`nixos` have as arguments, also while they are imported.";
      };

      state = mkOption {
        type = types.nullOr (types.submodule {
          options = {
            size = mkOption {
              type = types.strMatching "[0-9]+[KMGT]?";
              default = "8G";
              example = "100G";
              description = "How large the volume is; it takes up what is written. It can grow later, and not shrink.";
            };
            filesystem = mkOption {
              type = types.enum [ "ext4" "xfs" "btrfs" ];
              default = "ext4";
              description = "What it is formatted with when it is made.";
            };
          };
        });
        default = { };
        description = ''
          The volume that is the root filesystem of a guest of {option}`nixos`: `state.raw` in the VM's directory
          in the state directory. With `null` the root filesystem is in memory, and forgotten with each stop.
        '';
      };

      guest = mkOption {
        type = types.unspecified;
        internal = true;
        readOnly = true;
        description = "The evaluated guest: its `config`, `options` and `pkgs`.";
      };
    };

    config = mkIf (config.nixos != null) (
      let
        inherit (config) guest state;
        inherit (guest.config) boot system;
      in
      {
        guest = evaluate name config;
        kernel = mkDefault "${system.build.kernel}/${system.boot.loader.kernelFile}";
        initrd = mkDefault "${system.build.initialRamdisk}/${system.boot.loader.initrdFile}";
        # The guest has this path on its own disk; the host need not have it.
        cmdline = mkDefault (lib.concatStringsSep " " (
          [ "init=${builtins.unsafeDiscardStringContext "${system.build.toplevel}"}/init" ] ++ boot.kernelParams
        ));
        disk = lib.mkBefore ([
          { name = "store"; path = "${system.build.nkudoStore}"; format = "raw"; read-only = true; }
        ] ++ lib.optional (state != null) {
          name = "state";
          inherit (state) filesystem size;
        });
      }
    );
  };

  # The VM's table, without the options here.
  table = id: vm:
    let
      known = nics id vm;
      table = removeAttrs vm [ "guest" "nixos" "specialArgs" "state" ];
    in
    table // lib.optionalAttrs (vm.nixos != null && vm.nic != null) {
      nic = lib.imap0 (index: nic: nic // { inherit (lib.elemAt known index) mac; }) vm.nic;
    };
}
