# A configuration's `virtualisation.nkudo` with nixpkgs' library alone: what NixOS itself declares is in
# nixos.nix, and packages are names in pkgs.nix.
{ nixpkgsLib, configuration }:

let
  lib = import nixpkgsLib;
  pkgs = import ./pkgs.nix { inherit lib; };

  inherit (lib.evalModules {
    modules = [
      ../../nixos-module
      ./nixos.nix
      configuration
      { _module.args = { inherit pkgs; }; }
    ];
  }) config options;

  # As in the text of a unit: what is at its default is left out.
  service = service: lib.filterAttrs
    (_: value: value != null && value != [ ] && value != { } && value != "")
    service;
in
{
  # Every option with its documentation, as NixOS' manual has it.
  options = map (one: { inherit (one) name type; documented = one ? description && one.description != ""; })
    (lib.filter (one: one.visible && !one.internal && lib.hasPrefix "virtualisation.nkudo." one.name)
      (lib.optionAttrSetToDocList options));

  refused = map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);

  settings = (import ../../nixos-module/from-schema.nix { inherit lib; }).written config.virtualisation.nkudo.settings;

  host = {
    etc = lib.mapAttrs (_: file: file.source) config.environment.etc;
    packages = config.environment.systemPackages;
    kernel-modules = config.boot.kernelModules;
    tmpfiles = config.systemd.tmpfiles.settings;
    unit-packages = config.systemd.packages;
    services = lib.mapAttrs (_: service) config.systemd.services;
    dhcpcd = config.networking.dhcpcd.denyInterfaces;
    networkmanager = config.networking.networkmanager.unmanaged;
    firewall = { inherit (config.networking.firewall) extraForwardRules interfaces; };
  };

  guests = lib.mapAttrs
    (_: vm: {
      inherit (vm.guest.config) boot documentation fileSystems networking nix system systemd;
      store = vm.guest.config.system.build.nkudoStore.attributes;
    })
    (lib.filterAttrs (_: vm: vm.nixos != null) config.virtualisation.nkudo.vms);
}
