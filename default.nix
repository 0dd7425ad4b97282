# The package without flakes: `nix-build`, or `(import ./. { inherit pkgs; })` in a configuration.
{ pkgs ? import <nixpkgs> { } }:

pkgs.callPackage ./nixos-module/package.nix { }
