# The VM tests of tests/nixos as far as nixpkgs' library goes: what each machine and each of its
# specialisations asks of nkudo. What else they set is taken as it is.
{ nixpkgsLib }:

let
  lib = import nixpkgsLib;
  pkgs = import ./pkgs.nix { inherit lib; };
  fromSchema = import ../../nixos-module/from-schema.nix { inherit lib; };

  programs = pkgs.package "test-programs" { };
  tests = {
    switching-networkd = import ../nixos/switching.nix { inherit programs; networkd = true; };
    switching-scripted = import ../nixos/switching.nix { inherit programs; networkd = false; };
    failure = import ../nixos/failure.nix { inherit programs; };
    garbage = import ../nixos/garbage.nix { inherit programs; };
    real-guest = import ../nixos/real-guest.nix;
  };

  anything = lib.types.attrsOf lib.types.anything;

  evaluate = modules: (lib.evalModules {
    modules = modules ++ [
      ./nixos.nix
      {
        config._module = {
          args = { inherit pkgs; };
          freeformType = anything;
        };
        options.specialisation = lib.mkOption {
          type = lib.types.attrsOf (lib.types.submodule {
            options.configuration = lib.mkOption { type = lib.types.deferredModule; };
          });
          default = { };
        };
      }
    ];
  }).config;

  asked = config: {
    refused = map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);
    inherit (config.virtualisation.nkudo) enable;
    settings = fromSchema.written config.virtualisation.nkudo.settings;
  };
in
lib.mapAttrs
  (_: test:
  let
    called = if lib.isFunction test then test { inherit lib; } else test;
    inherit (called) nodes testScript;
    machine = evaluate [ nodes.machine ];
  in
  {
    inherit testScript;
    machine = asked machine;
    specialisations = lib.mapAttrs
      (_: one: asked (evaluate [ nodes.machine one.configuration ]))
      machine.specialisation;
  })
  tests
