# The flake's outputs with nixpkgs' library, by their names, and the package as it is asked for.
{ nixpkgsLib }:

let
  lib = import nixpkgsLib;
  pkgs = import ./pkgs.nix { inherit lib; };

  flake = import ../../flake.nix;
  self = flake.outputs {
    self = self // { outPath = ../..; };
    nixpkgs = {
      inherit lib;
      outPath = ./nixpkgs;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs);
    };
  };

  # What the package hands to nixpkgs' builder.
  package = import ../../nixos-module/package.nix ({
    inherit lib;
    inherit (pkgs) stdenv;
    rustPlatform.buildRustPackage = lib.id;
  } // lib.genAttrs [
    "btrfs-progs"
    "dnsmasq"
    "dosfstools"
    "e2fsprogs"
    "makeBinaryWrapper"
    "nftables"
    "openssh"
    "qemu"
    "swtpm"
    "systemd"
    "virtiofsd"
    "xfsprogs"
  ]
    (name: pkgs.package name { }));

  perSystem = lib.genAttrs [ "checks" "devShells" "legacyPackages" "packages" ]
    (output: lib.mapAttrs (_: lib.attrNames) self.${output});
in
{
  inputs = lib.attrNames flake.inputs;
  outputs = lib.attrNames self;
  inherit perSystem;
  module = lib.pathExists (self.nixosModules.default + "/default.nix");
  template = lib.attrNames (builtins.readDir self.templates.default.path);
  overlay = lib.attrNames (self.overlays.default pkgs pkgs);
  withoutFlakes = (import ../../default.nix { inherit pkgs; }).name;

  package = {
    inherit (package) pname version installPhase;
    inherit (package.meta) mainProgram platforms;
    # The source is as large as it has to be.
    takes = lib.filter (path: package.src.filter (toString ../.. + "/${path}") "") [
      "Cargo.lock"
      "Cargo.toml"
      "Makefile"
      "README.md"
      "completions/nkudo.bash"
      "docs"
      "docs/nixos.md"
      "docs/nkudo.schema.json"
      "examples/web.toml"
      "flake.nix"
      "man/nkudo.8"
      "nixos-module/default.nix"
      "src/main.rs"
      "target"
      "tests/host/main.rs"
      "units/nkudo.slice"
    ];
  };
}
