# Stands in for nixpkgs' own: the options of NixOS that a guest reads and sets, by their real names. What is
# built is a name, in which is what it would be built from.
{ lib, modules, system ? builtins.currentSystem, specialArgs ? { }, prefix ? [ ] }:

assert system == null;

let
  inherit (lib) mkOption types;

  pkgs = import ../../../pkgs.nix { inherit lib; };

  list = type: mkOption { type = types.listOf type; default = [ ]; };
  flag = mkOption { type = types.bool; default = true; };
  text = mkOption { type = types.str; };

  # A name that is another for another configuration.
  built = name: what: pkgs.package "${name}-${lib.substring 0 8 (builtins.hashString "sha256" (builtins.toJSON what))}" { };

  nixos = { config, pkgs, ... }: {
    options = {
      boot = {
        loader.grub.enable = flag;
        kernelParams = list types.str;
        initrd = {
          systemd.enable = flag;
          availableKernelModules = list types.str;
          kernelModules = list types.str;
        };
      };
      documentation.enable = flag;
      environment.systemPackages = list types.package;
      fileSystems = mkOption {
        type = types.attrsOf (types.submodule {
          options = {
            device = text;
            fsType = text;
            options = list types.str;
            neededForBoot = mkOption { type = types.bool; default = false; };
            autoResize = mkOption { type = types.bool; default = false; };
          };
        });
      };
      networking = {
        hostName = text;
        useNetworkd = mkOption { type = types.bool; default = false; };
        firewall.allowedTCPPorts = list types.port;
      };
      nix.enable = flag;
      nixpkgs.pkgs = mkOption { type = types.unspecified; };
      services.postgresql = {
        enable = mkOption { type = types.bool; default = false; };
        dataDir = mkOption { type = types.path; default = "/var/lib/postgresql/17"; };
      };
      services.nginx = {
        enable = mkOption { type = types.bool; default = false; };
        virtualHosts = mkOption {
          type = types.attrsOf (types.submodule { options.root = mkOption { type = types.path; }; });
          default = { };
        };
      };
      system = {
        boot.loader = {
          kernelFile = mkOption { type = types.str; default = "bzImage"; };
          initrdFile = mkOption { type = types.str; default = "initrd"; };
        };
        build = mkOption { type = types.lazyAttrsOf types.unspecified; };
        stateVersion = text;
      };
      systemd.services = mkOption {
        type = types.attrsOf (types.submodule {
          options = {
            wantedBy = list types.str;
            script = text;
            serviceConfig = mkOption { type = types.attrsOf types.str; default = { }; };
          };
        });
        default = { };
      };
      systemd.network.networks = mkOption {
        type = types.attrsOf (types.submodule {
          options = {
            matchConfig = mkOption { type = types.attrsOf types.str; };
            address = list types.str;
            gateway = list types.str;
            dns = list types.str;
          };
        });
        default = { };
      };
    };
    config = {
      _module.args.pkgs = config.nixpkgs.pkgs;
      boot.kernelParams = [ "loglevel=4" ];
      system.build = {
        kernel = pkgs.package "linux-6.18" { };
        initialRamdisk = built "initrd" [ config.boot.initrd config.fileSystems ];
        toplevel = built "nixos-system-${config.networking.hostName}" [
          config.boot
          config.environment
          config.services
          config.systemd
        ];
      };
    };
  };
in
lib.evalModules {
  inherit prefix specialArgs;
  modules = modules ++ [ nixos ];
}
